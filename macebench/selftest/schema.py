"""The documented schema of ``selftest.json``.

Numbers are rounded to 9 significant digits; what has no value is null. For equal inputs, seed and software the bytes
are the same, whatever the number of workers.

The folder of a self-test holds:

- ``selftest.json``: a `SelftestResult`.
- ``selftest.csv``: one row for each protocol, column, damage and strength.
- ``report_card.csv``: one row for each protocol and column: its `Card`.
- ``heatmap.png``: one panel for each protocol; ``selftest.html``: one page without outside links.

**d'** is the change of the column's *badness* from the clean to the damaged clips, in deviations: the difference of the
means over all random half splits, over the root of the mean of the two variances. It is cut to +-99, and not smaller
than what the share of pairs says in which the damaged half is worse (`macebench.selftest.judge.d_prime`). Above 0 the
column says "worse". Badness is the value itself where lower is better, minus the value where higher is better, and the
distance to the value of the undamaged reference half where the reference is the aim. A column that is a mean over clips
is taken minus the mean of the reference half, so that its noise is that of comparing two sets of n clips.

Verdicts: a claim ``worse`` is ``right`` when d' at the strongest damage is at least 1, ``wrong`` when it is at most -1,
``blind`` between, ``refused`` when the damaged clips cannot be scored. A claim ``unchanged`` is ``invariant`` when no
strength has a d' beyond +-1, else ``changed``. Without a claim it is ``no claim``; a column without a clean value is
``not measured``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from macebench.errors import UserError
from macebench.selftest.expectations import Claim
from macebench.types import Better

JSON_FILE, CSV_FILE, CARD_FILE = "selftest.json", "selftest.csv", "report_card.csv"
PLOT_FILE, PAGE_FILE = "heatmap.png", "selftest.html"
D_LIMIT = 99.0
SEEN, FOUND = 1.0, 2.0
"""Least d' that counts as an answer, and from which on a damage counts as found."""

Verdict = Literal["right", "wrong", "blind", "refused", "invariant", "changed", "no claim", "not measured"]
FAILURES: tuple[Verdict, ...] = ("wrong", "blind", "changed")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Level(_Record):
    """One strength: mean value over the splits, d', and how many pieces of all clips have a value."""

    strength: float
    value: float | None
    d_prime: float | None
    n_scored: int


class Cell(_Record):
    """One column under one damage.

    Attributes:
        claim: What was declared beforehand.
        verdict: See the module's docstring.
        levels: The strengths, increasing.
        d_prime: That of the strongest strength; null when it has no value.
        rho: Spearman's rank correlation of the mean badness with the strength, clean included; null when it is
            constant.
        monotone: Whether no step to the next strength makes the column better by more than one deviation of that step
            over the splits.
        found_from: The smallest strength whose d' is 2 or more, or null.
    """

    protocol: str
    column: str
    damage: str
    claim: Claim
    verdict: Verdict
    levels: tuple[Level, ...]
    d_prime: float | None
    rho: float | None
    monotone: bool
    found_from: float | None


class Card(_Record):
    """The report card of one column under one protocol.

    Attributes:
        clean: Mean value of the undamaged generated half over the splits.
        reference: The same of the undamaged reference half; null where it is not the aim.
        detectable: Smallest difference between two models that n clips each can show, at a level of 5 % with a power of
            80 %, in the column's unit. Means over clips: a paired t test whose pairs are the clips of two halves. Set
            metrics: 3.96 deviations over the splits (normal distribution). Null when it cannot be said.
        n: Pieces in a generated half (mean over the splits, rounded).
        mean_d_prime: Mean of d' over the damages that must be noticed; null without one.
        n_worse: Damages that must be noticed and could be judged.
        share_right: Share of these that are.
        n_unchanged: Damages that must not matter and could be judged.
        share_invariant: Share of these that do not.
        share_monotone: Share of the damages that must be noticed in which no step goes the wrong way.
        blind_spot: The damage that must be noticed and has the smallest d'; null when all are right.
        blind_spot_d_prime: Its d'.
        failures: Damages with the verdicts wrong, blind or changed.
    """

    protocol: str
    metric: str
    column: str
    unit: str
    better: Better
    clean: float | None
    reference: float | None
    detectable: float | None
    n: int
    mean_d_prime: float | None
    n_worse: int
    share_right: float | None
    n_unchanged: int
    share_invariant: float | None
    share_monotone: float | None
    blind_spot: str | None
    blind_spot_d_prime: float | None
    failures: tuple[str, ...]


class DamageRecord(_Record):
    """A damage that was applied."""

    name: str
    summary: str
    unit: str
    strengths: tuple[float, ...]


class ProtocolRecord(_Record):
    """A protocol that was tested."""

    id: str
    hash: str
    title: str
    track: str
    n_pieces: int


class SelftestResult(_Record):
    """``selftest.json``."""

    schema_version: Literal[1] = 1
    source: str
    n_clips: int
    n_half: int
    repeats: int
    seed: int
    protocols: tuple[ProtocolRecord, ...]
    damages: tuple[DamageRecord, ...]
    cells: tuple[Cell, ...]
    cards: tuple[Card, ...]
    environment: dict[str, str]

    def of(self, protocol: str) -> tuple[list[Card], dict[tuple[str, str], Cell]]:
        """The cards of a protocol in the order of its columns, and its cells by column and damage."""
        cells = {(cell.column, cell.damage): cell for cell in self.cells if cell.protocol == protocol}
        return [card for card in self.cards if card.protocol == protocol], cells

    def measured(self, protocol: str) -> tuple[list[Card], list[str]]:
        """The cards of the columns that have a value, and the names of those that have none."""
        cards = self.of(protocol)[0]
        return [card for card in cards if card.clean is not None], [c.column for c in cards if c.clean is None]

    @property
    def wrong_fixed(self) -> list[Cell]:
        """Cells of the repaired protocols (``...-fixed``) that move the wrong way."""
        return [
            cell for cell in self.cells if cell.verdict == "wrong" and cell.protocol.split("/")[0].endswith("-fixed")
        ]

    @classmethod
    def read(cls, folder: Path) -> SelftestResult:
        """The result in `folder`.

        Raises:
            UserError: there is none, or it does not follow the schema.
        """
        path = Path(folder) / JSON_FILE
        if not path.is_file():
            raise UserError(f"{folder} holds no {JSON_FILE}.", hint="`macebench selftest --out DIR` makes one.")
        try:
            return cls.model_validate_json(path.read_text("utf-8"))
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(f"{path}: {'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}.") from error
