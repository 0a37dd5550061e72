"""The data sheet of a curated data set, after Gebru et al., "Datasheets for Datasets" (2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def datasheet(
    summary: Mapping[str, Any],
    metadata: Mapping[str, tuple[str, str]],
    ledger: Mapping[str, tuple[str, str]],
    scores: Sequence[str],
) -> str:
    """The text of ``DATASHEET.md`` from the content of ``dataset.json`` and the columns of the tables."""
    config = summary["config"]
    by = config.get("splits", {}).get("by", ("source", "music", "performer"))
    splits = ", ".join(f"{name} {count}" for name, count in summary["splits"].items()) or "none"
    lost = sum(item["spans"] for item in summary["rejected"])
    lines = [
        "# Data sheet",
        "",
        f"**What it is.** {summary['n_clips']} clips ({_hours(summary['clip_seconds'])}) out of "
        f"{summary['n_sources']} sources ({_hours(summary['source_seconds'])}), one person dancing to music in each. "
        f"Clips by split: {splits}.",
        "",
        f"**How it was made.** By `macebench curate`, with the stages {', '.join(config['stages'])}; every setting is "
        f"in `dataset.json`. {lost} spans were rejected; `ledger.parquet` has each with stage, value and threshold. "
        "The same sources and settings give the same files.",
        "",
        *_looked(summary),
        "**What was rejected.**",
        "",
        "| stage | reason | spans | time |",
        "|---|---|---|---|",
        *(_lost_row(item) for item in summary["rejected"]),
        "",
        "**Who is shown.** People in the sources. Their consent basis is in the column `consent`; where the sources' "
        f"table says nothing, it is \"{_cell(config['consent'])}\". Clips and sources are named by hashes. A person's "
        "wish to be left out is met by putting the source's hash on the opt-out list (`probe.optout`) and running "
        "again.",
        "",
        f"**Licence.** Column `licence`; where the sources' table says nothing, it is \"{_cell(config['licence'])}\".",
        "",
        f"**Splits.** By {', '.join(by) or 'nothing'}, where they are known; where the music is "
        "not known, clips with the same sound by fingerprint stay together. See `dataset.json`, `splits`. "
        + " ".join(summary["split_notes"]),
        "",
        "**Known limits.** Whatever the detectors of the stages miss. Genres are those of the sources' table and were "
        "not checked. Near-copies of a source with other bytes are not found by their hash; `macebench data audit` "
        "looks for them.",
        "",
        "**Columns of `metadata.parquet`.**",
        "",
        *_columns(metadata),
        *(f"- `{name}`: score of the stage `{name.partition('.')[0]}`." for name in scores),
        "",
        "**Columns of `ledger.parquet`.**",
        "",
        *_columns(ledger),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _looked(summary: Mapping[str, Any]) -> list[str]:
    """What looked at the pictures, and the values that hold where the settings leave them open."""
    lines = [f"- stage `{name}`: {_values(said)}" for name, said in sorted(summary.get("observers", {}).items())]
    lines += [f"- `{name}`, where the settings have none: {_values(held)}"
              for name, held in sorted(summary.get("in_force", {}).items())]  # fmt: skip
    return ["**What looked at the pictures.**", "", *lines, ""] if lines else []


def _values(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in sorted(values.items()))


def _columns(columns: Mapping[str, tuple[str, str]]) -> list[str]:
    return [f"- `{name}`: {text}" for name, (_, text) in columns.items()]


def _lost_row(item: Mapping[str, Any]) -> str:
    return f"| {_cell(item['stage'])} | {_cell(item['reason'])} | {item['spans']} | {_hours(item['seconds'])} |"


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
