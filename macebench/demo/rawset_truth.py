"""What is known of the planted raw sources, and the file that says it.

``truth.json`` is one object: ``schema`` ("macebench-raw-truth"), ``version``, ``settings`` (seed, size, small) and
``sources``, a list of objects with the fields of `SourceTruth` (spans are pairs, `Dropped` an object).
All times are seconds of presentation time after the source's first picture.

Reasons by stage:

- ``probe``: "too short", "picture too small", "no sound", "silent", "opted out", "duplicate", and the reasons of
  `MediaError` (``macebench.media.decoder`` lists them). A source that opens but breaks while it is decoded has the
  stage ``decode``.
- ``shots``: "shot too short".
- ``motion``: "near-static", "camera motion only".
- ``person``: "no person", "several people", "body not in frame", "drawn skeleton".
- ``windows``: "too short".
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from macebench.errors import UserError

SCHEMA = "macebench-raw-truth"
VERSION = 1
TRUTH_FILE = "truth.json"
STAGES = ("probe", "decode", "shots", "motion", "person", "windows")
MIN_SHOT_S = 5.0
"""A shot that is shorter is no use."""

Span = tuple[float, float]


@dataclass(frozen=True)
class Dropped:
    """A span of a source that a stage must drop.

    Attributes:
        start_s, end_s: The span.
        stage: Which stage drops it.
        reason: With which reason.
    """

    start_s: float
    end_s: float
    stage: str
    reason: str


@dataclass(frozen=True)
class SourceTruth:
    """What is known of one source file.

    Attributes:
        file_name: Path below the folder of the sources, with forward slashes.
        kind: What was planted, such as ``hard cuts``.
        expect: ``keep`` when at least one clip must come out of it, else ``reject``.
        stage, reason: For ``reject``: which stage drops it and why; empty for ``keep``.
        also_reasons: Other reasons of the same stage that are right too.
        cuts_s: Time of the first picture of each new shot after a hard cut.
        gradual: Fades and dissolves: first altered picture, first picture that is wholly the new shot.
        flashes_s: Flashes and strobes, which are no cuts: first flash picture, first picture after them.
        usable_spans: Spans of one shot without a gradual transition, of `MIN_SHOT_S` or more, that must be kept
            (apart from what windows leave over).
        dropped: Spans of a source that must be dropped, while others are kept.
        fps: Nominal frames a second; the mean of a variable rate; 0 when nothing can be decoded.
        duration_s: Length of the pictures; 0 when nothing can be decoded.
        width, height: Displayed size in pixels (square pixels, after turning); 0 when nothing can be decoded.
        audio_onsets_s: When the clicks in the sound begin, on the clock of the pictures.
        marked: The picture shows the clicks: a black square of ``min(width, height) // 24`` pixels in the top left
            corner turns white in the picture at the time of a click, for 3 pictures.
        n_people: People seen at the same time in most pictures.
        second_person: Spans in which a further person is seen.
        notes: For the reader.
        sha256: Of the file.
    """

    file_name: str
    kind: str
    expect: Literal["keep", "reject"]
    stage: str = ""
    reason: str = ""
    also_reasons: tuple[str, ...] = ()
    cuts_s: tuple[float, ...] = ()
    gradual: tuple[Span, ...] = ()
    flashes_s: tuple[Span, ...] = ()
    usable_spans: tuple[Span, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    fps: float = 0.0
    duration_s: float = 0.0
    width: int = 0
    height: int = 0
    audio_onsets_s: tuple[float, ...] = ()
    marked: bool = False
    n_people: int = 1
    second_person: tuple[Span, ...] = ()
    notes: str = ""
    sha256: str = ""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Every reason that is right for a source to be rejected."""
        return (self.reason, *self.also_reasons) if self.reason else ()


@dataclass(frozen=True)
class RawTruth:
    """What is known of a raw set.

    Attributes:
        sources: In the order of their names.
        settings: Seed, size and ``small`` of the set.
    """

    sources: tuple[SourceTruth, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    def source(self, file_name: str) -> SourceTruth:
        """The source with this name. Raises `KeyError` when there is none."""
        for source in self.sources:
            if source.file_name == file_name:
                return source
        raise KeyError(file_name)

    @property
    def kept(self) -> tuple[SourceTruth, ...]:
        """The sources of which clips must remain."""
        return tuple(source for source in self.sources if source.expect == "keep")

    @property
    def rejected(self) -> tuple[SourceTruth, ...]:
        """The sources of which nothing may remain."""
        return tuple(source for source in self.sources if source.expect == "reject")


def write_truth(path: Path, truth: RawTruth) -> None:
    """Write ``truth.json``; equal truths give equal bytes."""
    from macebench.store import write_text

    sources = [asdict(source) for source in truth.sources]
    whole = {"schema": SCHEMA, "version": VERSION, "settings": truth.settings, "sources": sources}
    write_text(path, json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=True) + "\n")


def read_truth(path: str | Path) -> RawTruth:
    """The truth of a raw set.

    Args:
        path: ``truth.json`` or the folder that holds it.

    Raises:
        UserError: no such file, or it is no truth file of this version.
    """
    path = Path(path)
    path = path / TRUTH_FILE if path.is_dir() else path
    hint = "Build the raw set again; macebench.demo.rawset.build_raw_set writes this file."
    try:
        whole = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}.", hint=hint) from error
    if not isinstance(whole, dict) or (whole.get("schema"), whole.get("version")) != (SCHEMA, VERSION):
        raise UserError(f"{path} is no truth file of version {VERSION}.", hint=hint)
    try:
        return RawTruth(tuple(_source(values) for values in whole["sources"]), dict(whole["settings"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error}.", hint=hint) from error


def _source(values: dict[str, Any]) -> SourceTruth:
    known = {item.name for item in fields(SourceTruth)}
    if set(values) != known:
        raise ValueError(f"fields {sorted(set(values) ^ known)}")
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    for name in ("gradual", "flashes_s", "usable_spans", "second_person"):
        lists[name] = tuple((float(start), float(end)) for start, end in values[name])
    lists["dropped"] = tuple(Dropped(**span) for span in values["dropped"])
    return SourceTruth(**{**values, **lists})
