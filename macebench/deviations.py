"""How far an approximating protocol was found from the exact one, as measured and shipped in ``deviations.yaml``.

`tests/benchmarks/bench_vbench_fast.py` measures it. The numbers say what to expect, not what holds for a given clip;
`Deviations.origin` says what they were measured with.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import yaml
from pydantic import BaseModel, ConfigDict, Field


class Deviation(BaseModel):
    """Absolute differences of one dimension over some clips, in the dimension's own unit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    median: float = Field(ge=0)
    max: float = Field(ge=0)
    n: int = Field(ge=1)


class Deviations(BaseModel):
    """Deviations of a protocol.

    Attributes:
        hash: Of the protocol, unresolved, that was measured.
        exact: The protocol that it approximates.
        origin: What weights and clips they come from.
        n: Clips.
        dimensions: By column.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hash: str
    exact: str
    origin: str
    n: int = Field(ge=1)
    dimensions: dict[str, Deviation]

    @property
    def legend(self) -> str:
        """One line for people."""
        return f"deviation from {self.exact}: median, and the largest, over {self.n} clips ({self.origin})"


@cache
def _table() -> dict[str, Deviations]:
    text = resources.files("macebench").joinpath("deviations.yaml").read_text("utf-8")
    return {name: Deviations.model_validate(row) for name, row in yaml.safe_load(text).items()}


def deviations_of(protocol_id: str) -> Deviations | None:
    """The measured deviations of a built-in protocol; None for an exact one."""
    return _table().get(protocol_id)
