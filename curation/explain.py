"""Why something was kept or dropped, and what other thresholds would do; nothing is decoded for either.

`explain` reads the tables of a data set. `what_if` decides again from the timelines in the store: it answers for every
threshold, but not for settings that decide what is measured (then the timelines are not there, which is said).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from macebench import registry
from macebench.curation._manifest import check_folder
from macebench.curation.config import CurateConfig, config_from_plain, in_force
from macebench.curation.dataset import DATASET_FILE, LEDGER_FILE, METADATA, METADATA_FILE
from macebench.curation.decide import decide
from macebench.curation.observe import early_end, load_probed, load_timelines, observers_of
from macebench.curation.outcomes import OPTED_OUT, Group, OptOuts, Outcomes, optouts
from macebench.curation.records import WORK, Index, clip_id
from macebench.curation.stage import Stage, Task
from macebench.errors import MediaError, UserError
from macebench.optout import mark
from macebench.store import Store

COMPARED = {
    "shots": {"length_s": "min_shot_s"},
    "motion": {"residual": "min"},
    "person": {
        "several_share": "max_several_share", "body_share": "min_body_share", "drawn_share": "max_drawn_share",
        "height_share": "min_height_share",
    },
}  # fmt: skip
"""Stage -> score -> field of its config, for built-in stages without an attribute ``limits``."""
_HINT = "`macebench curate SOURCES... --out DATASET` makes a data set."


@dataclass(frozen=True)
class Check:
    """One score of a span.

    Attributes:
        name: ``stage.score``.
        value: NaN where there is none.
        setting: The setting it is compared with, ``stage.field``; empty when it is compared with none.
        limit: The setting's value; None when there is none.
    """

    name: str
    value: float
    setting: str = ""
    limit: Any = None


@dataclass(frozen=True)
class Explained:
    """One span.

    Attributes:
        name: Clip id, or empty for a rejected span.
        source_name, source_id: Of the source.
        start_s, end_s: The span.
        kept: Whether it is in the data set.
        stage, reason, value, threshold: Why it was dropped.
        checks: Its scores, in the order of the stages.
    """

    name: str
    source_name: str
    source_id: str
    start_s: float
    end_s: float
    kept: bool
    stage: str = ""
    reason: str = ""
    value: float = math.nan
    threshold: float = math.nan
    checks: tuple[Check, ...] = ()


def load_dataset(dataset: Path) -> tuple[dict[str, Any], CurateConfig]:
    """The content of ``dataset.json`` and its settings.

    Raises:
        UserError: no data set made by curate.
    """
    path = Path(dataset) / DATASET_FILE
    check_folder(Path(dataset), _HINT)
    try:
        summary = json.loads(path.read_text("utf-8"))
        config = summary["config"]
    except FileNotFoundError as error:
        raise UserError(f"{dataset} is no data set made by curate: it has no {path.name}.", hint=_HINT) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{dataset} is no data set made by curate: {path.name}: {error}.", hint=_HINT) from error
    return summary, config_from_plain(config)


def explain(dataset: Path, what: str) -> list[Explained]:
    """Every span of a clip's or a source's name.

    Args:
        dataset: Folder of the data set.
        what: A clip id, a source's name, or at least 6 first digits of a source's hash.

    Raises:
        UserError: no data set, or nothing in it has this name.
    """
    _, config = load_dataset(dataset)
    kept = [_kept(row, config) for row in _rows(dataset, METADATA_FILE, what)]
    dropped = [_dropped(row, config) for row in _rows(dataset, LEDGER_FILE, what)]
    found = sorted([*kept, *dropped], key=lambda item: (item.source_name, item.start_s, not item.kept, item.stage))
    if not found:
        raise UserError(
            f"{dataset} knows no clip or source {what!r}.",
            hint="Give a clip id, a source's name as in ledger.parquet or metadata.parquet, or the start of its hash. "
            "What opted out has lost its name: give its whole SHA-256.",
        )
    return found


def _rows(dataset: Path, table: str, what: str) -> list[dict[str, Any]]:
    """Rows of a table that belong to `what`, read one row group at a time."""
    import pyarrow.parquet as pq

    found = []
    path = Path(dataset) / table
    if not path.is_file():
        raise UserError(f"{dataset} has no {table}.", hint=_HINT)
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(4096):
            found += [row for row in batch.to_pylist() if _matches(row, what)]
    return found


def _matches(row: Mapping[str, Any], what: str) -> bool:
    names = (row["source_name"], Path(row["source_name"]).name, row.get("clip_id"))
    source_id = str(row["source_id"])
    return what in names or (len(what) >= 6 and source_id.startswith(what)) or source_id == mark(what.lower())


def _kept(row: Mapping[str, Any], config: CurateConfig) -> Explained:
    scores = {name: _number(value) for name, value in row.items() if name not in METADATA}
    return Explained(
        row["clip_id"], row["source_name"], row["source_id"], row["start_s"], _number(row["end_s"]), True,
        checks=checks(scores, config),
    )  # fmt: skip


def _dropped(row: Mapping[str, Any], config: CurateConfig) -> Explained:
    return Explained(
        "", row["source_name"], row["source_id"], row["start_s"], _number(row["end_s"]), False, row["stage"],
        row["reason"], _number(row["value"]), _number(row["threshold"]), checks(json.loads(row["scores"]), config),
    )  # fmt: skip


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def limits(config: CurateConfig) -> dict[str, tuple[str, Any]]:
    """``stage.score`` -> the setting it is compared with and its value.

    A stage says so in its attribute ``limits``: score -> field of its config, as ``--set`` takes it.
    """
    found: dict[str, tuple[str, Any]] = {}
    for name in config.stages:
        compared = getattr(registry.get("stages", name), "limits", None) or COMPARED.get(name, {})
        for score, setting in compared.items():
            value = in_force(config.sections[name]).get(setting)
            found[f"{name}.{score}"] = (f"{name}.{setting}", value)
    return found


def checks(scores: Mapping[str, float], config: CurateConfig) -> tuple[Check, ...]:
    """The scores of one span in the order of the stages, each with what it is compared with."""
    known = limits(config)
    order = {name: number for number, name in enumerate(config.stages)}
    names = sorted(scores, key=lambda name: (order.get(name.partition(".")[0], len(order)), name))
    return tuple(Check(name, float(scores[name]), *known.get(name, ("", None))) for name in names)


@dataclass
class Yield:
    """What some settings keep.

    Attributes:
        clips: Number of spans kept.
        seconds: Their length.
        reasons: (stage, reason) -> spans dropped.
    """

    clips: int = 0
    seconds: float = 0.0
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, start_s: float, end_s: float) -> None:
        """Count a kept span."""
        self.clips += 1
        self.seconds += end_s - start_s


@dataclass(frozen=True)
class WhatIf:
    """The yield of a data set as it is, and under other settings.

    Attributes:
        now: As it is.
        then: Under the other settings.
        unknown: Sources that cannot be judged without decoding: not counted in `then`.
        changed: Settings that differ: ``section.field`` -> (now, then).
    """

    now: Yield
    then: Yield
    unknown: int
    changed: Mapping[str, tuple[Any, Any]]


def what_if(
    dataset: Path, changes: Sequence[str], *, store: Path | None = None, plugins: Sequence[Path] = ()
) -> WhatIf:
    """The yield under changed settings, from what is stored.

    Args:
        dataset: Folder of the data set.
        changes: ``section.field=value``.
        store: Folder of the store; None: the one that the data set was made with.
        plugins: Plugin files; those that the data set was made with are loaded anyway.

    Raises:
        UserError: no data set, or a mistake in a change.
    """
    path = Path(dataset) / WORK / "index.sqlite"
    check_folder(Path(dataset), _HINT)
    if not path.is_file():
        raise UserError(f"{dataset} has no working folder {WORK}, so nothing is known of its sources.", hint=_HINT)
    index = Index(path)
    try:
        for plugin in [*plugins, *(Path(item) for item in json.loads(index.get_state("plugins") or "[]"))]:
            registry.load_plugin(plugin)
        summary, before = load_dataset(dataset)
        after = config_from_plain(summary["config"], changes)
        place = Path(store) if store is not None else Path(index.get_state("store"))
        blocked = optouts(Path(dataset), before)
        judge = _Judge(after, Store(place), blocked, same_bytes=before.encode_hash == after.encode_hash)
        for group in Outcomes(Path(dataset), index, blocked):
            judge.add(group)
    finally:
        index.close()
    return WhatIf(judge.now, judge.then, judge.unknown, differences(before, after))


def differences(before: CurateConfig, after: CurateConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that differ: ``section.field`` -> (value in force before, after)."""
    one, two = _in_force(before), _in_force(after)
    names = sorted(one.keys() | two.keys())
    return {name: (one.get(name), two.get(name)) for name in names if one.get(name) != two.get(name)}


def _in_force(config: CurateConfig) -> dict[str, Any]:
    """Every setting by its name, with the value that holds."""
    held = {name: in_force(section) for name, section in config.sections.items() if section is not None}
    return _flat({**config.plain(), **held})


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= {f"{name}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {name: value}
    return found


class _Judge:
    """Decides on every source again.

    Args:
        config: The other settings.
        store: Holds the timelines.
        blocked: Opt-out lists.
        same_bytes: Whether a clip of the same span has the same bytes under the other settings: then what opted out by
            its hash stays out, and what could not be cut still cannot.
    """

    def __init__(self, config: CurateConfig, store: Store, blocked: OptOuts, *, same_bytes: bool) -> None:
        self._blocked, self._same_bytes = blocked, same_bytes
        self._store, self._side = store, config.general.max_side
        self._stages: list[Stage] = config.make_stages()
        self._observing = observers_of(self._stages)
        self.now, self.then, self.unknown = Yield(), Yield(), 0

    def add(self, group: Group) -> None:
        """Count a source as it is and as it would be."""
        for clip in group.clips:
            self.now.add(clip.start_s, clip.end_s)
        for _, span in group.spans():
            self.now.reasons[span.stage, span.reason] += 1
        for _, span in group.spans():
            if group.record is None or span.reason == "duplicate":
                self.then.reasons[span.stage, span.reason] += 1
        if group.record is not None:
            self._decide(group)

    def _decide(self, group: Group) -> None:
        source_id = group.first.sha256
        try:
            known = load_probed(self._store, source_id)
        except MediaError as error:
            self.then.reasons["probe", error.reason] += 1
            return
        if known is None:
            self.unknown += 1
            return
        info, measured = known
        task = Task(Path(group.first.name), source_id, 0.0, info.duration_s, {}, info, {"probe": measured})
        broken = [span for span in (group.record.rejected if group.record else ()) if span.stage == "decode"]
        first = self._stages.index(self._observing[0]) if self._observing else len(self._stages)
        decided = decide((task,), self._stages[:first])
        if decided.kept and self._observing:
            if broken:
                self.then.reasons["decode", broken[0].reason] += 1
                return
            seen = load_timelines(self._store, source_id, self._observing, self._side)
            if len(seen) < len(self._observing):
                self.unknown += 1
                return
            ended = early_end(self._observing, seen)
            if ended is not None:
                self.then.reasons[ended.stage, ended.reason] += 1
                return
            tasks = [dataclasses.replace(item, observed={**item.observed, **seen}) for item in decided.kept]
            decided = decide(tasks, self._stages[first:]).after(decided.ledger)
        out = self._taken_out(group)
        for item in decided.kept:
            end_s = math.nan if item.end_s is None else item.end_s
            name = clip_id(source_id, item.start_s)
            named = any(one.blocked(ids=(name,)) for one in self._blocked.lists)
            reason = ("optout", OPTED_OUT) if named else out.get((item.start_s, end_s))
            if reason is None:
                self.then.add(item.start_s, end_s)
            else:
                self.then.reasons[reason] += 1
        for row in decided.ledger:
            self.then.reasons[row.rejection.stage, row.rejection.reason] += 1

    def _taken_out(self, group: Group) -> dict[tuple[float, float], tuple[str, str]]:
        """Spans that the stages keep and that are no clips all the same: (start, end) -> (stage, reason)."""
        if not self._same_bytes or group.record is None:
            return {}
        failed = {(s.start_s, s.end_s): ("cut", s.reason) for s in group.record.rejected if s.stage == "cut"}
        return failed | {(clip.start_s, clip.end_s): ("optout", OPTED_OUT) for clip in group.opted_out}
