"""What ``macebench compare`` found: the documented schema of ``compare.json``.

One `Contrast` for each column that both models have. All values of a test come from its *pairs*: clips that both models
scored, so that `first` and `second` can differ a little from the scores of the two runs. Differences are first minus
second. A number that does not exist is null, and then `reason` says why.
"""

from __future__ import annotations

import csv
import io
import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

from macebench.types import Better

ALPHA = 0.05
Favours = Literal["first", "second", "neither"]
Verdict = Literal["first", "second", "differs", "open"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Side(_Record):
    """One of the two models: name of its run's folder, model, hash of the run's ``clips.parquet``."""

    run: str
    model: str
    clips_sha256: str


class Contrast(_Record):
    """One column of the two models.

    Attributes:
        name: Column.
        metric: Registered name of its metric.
        kind: ``set`` (paired permutation test) or ``mean`` (sign flip test and clustered bootstrap).
        unit: Unit of the values.
        better: Which direction is better.
        n: Pairs.
        n_clusters: Pieces of music (or clips, where the music is not known) that are swapped or drawn together.
        unscored: Pairs that lack a value: ``side: reason`` -> count.
        first: Value of the first model on the pairs.
        second: Value of the second model on the pairs.
        difference: `first` minus `second`.
        low: Lower end of the difference's 95 % interval; null for set metrics, which have none.
        high: Upper end.
        null_low: 2.5 % quantile of the difference when there is none.
        null_high: 97.5 % quantile.
        effect: The difference over the deviation of one cluster's: Cohen's d_z for means, and for set metrics the
            difference over ``null deviation * root of clusters``, which is on the same scale.
        scale: What `effect` divides differences by.
        p_value: Two-sided p-value.
        p_holm: The same, adjusted for all tests of the protocol.
        n_permutations: Permutations behind the p-value.
        detectable: About the smallest difference that is found in 80 % of such experiments at 5 %, before adjustment.
        reference: The reference set's own value, where nearer to it is better.
        favours: Which model's value is better, or nearer to `reference`; null when that cannot be said.
        reason: Why there is no test.
    """

    name: str
    metric: str
    kind: Literal["set", "mean"]
    unit: str
    better: Better
    n: int
    n_clusters: int
    unscored: dict[str, int] = {}
    first: float | None = None
    second: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    null_low: float | None = None
    null_high: float | None = None
    effect: float | None = None
    scale: float | None = None
    p_value: float | None = None
    p_holm: float | None = None
    n_permutations: int = 0
    detectable: float | None = None
    reference: float | None = None
    favours: Favours | None = None
    reason: str = ""

    @property
    def significant(self) -> bool:
        """Whether the adjusted p-value is at most 5 %."""
        return self.p_holm is not None and self.p_holm <= ALPHA

    @property
    def margin(self) -> float | None:
        """How large a difference must be to be more than chance at this n: half the interval, or the null's band."""
        if self.low is not None and self.high is not None:
            return (self.high - self.low) / 2
        if self.null_low is not None and self.null_high is not None:
            return max(abs(self.null_low), abs(self.null_high))
        return None

    @property
    def opposite(self) -> bool:
        """Whether the two lie on both sides of the reference's value, about as far away from it.

        Then they differ, and none is nearer: the distances differ by no more than `margin`.
        """
        if self.reference is None or self.first is None or self.second is None:
            return False
        one, two = self.first - self.reference, self.second - self.reference
        return one * two < 0 and abs(abs(one) - abs(two)) <= (math.inf if self.margin is None else self.margin)

    @property
    def verdict(self) -> Verdict:
        """Which model is better beyond chance; ``differs`` if no side can be named, ``open`` if it may be chance.

        The test is of a difference. Where nearer to the reference is better, that names no side for two values that
        are `opposite`.
        """
        if not self.significant:
            return "open"
        return self.favours if self.favours in ("first", "second") and not self.opposite else "differs"


class ProtocolComparison(_Record):
    """The tests under one protocol.

    `n_pairs` clips are in both runs with the same music; `unpaired` counts the others by reason. `n_shared_music`
    counts the sound files that clips of both runs have; null when one of the runs knows none.
    """

    protocol: str
    protocol_hash: str
    n_pairs: int
    unpaired: dict[str, int]
    n_shared_music: int | None = None
    tests: list[Contrast]


class Comparison(_Record):
    """``compare.json``."""

    schema_version: Literal[1] = 1
    first: Side
    second: Side
    n_permutations: int
    seed: int
    level: float
    protocols: list[ProtocolComparison]


def number(value: float) -> float | None:
    """The value, or None when it is not finite."""
    return float(value) if math.isfinite(value) else None


def as_csv(comparison: Comparison) -> str:
    """``compare.csv``: one line a test, with its protocol; an absent number is an empty cell."""
    text = io.StringIO()
    names = [name for name in Contrast.model_fields if name != "unscored"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["protocol", "protocol_hash", *names, "n_unscored"])
    for part in comparison.protocols:
        for test in part.tests:
            cells = [getattr(test, name) for name in names]
            lost = sum(test.unscored.values())
            writer.writerow(
                [part.protocol, part.protocol_hash, *("" if cell is None else cell for cell in cells), lost]
            )
    return text.getvalue()
