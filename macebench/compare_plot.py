"""The forest plot of a comparison.

One line a column, its effect on a common scale (difference over the deviation of one cluster's difference), turned so
that right is the first model's side: higher, lower or nearer to the reference, whatever is better. Means have their
interval; set metrics have none, so that the band of chance (95 % of permutations) is drawn behind their value.
Effects beyond the axis are marked with an arrow at its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from macebench.compare_records import Comparison, Contrast, ProtocolComparison

_COLOURS = {"first": "#0072b2", "second": "#d55e00", "differs": "#6a3d9a", "open": "#8a8a8a"}
_BAND = "#dddddd"
_LIMIT = 3.0
_ROW_INCHES, _HEAD_INCHES, _WIDTH_INCHES = 0.27, 1.15, 10.5
_MAX_NAME = 40


def forest_plot(comparison: Comparison, path: Path) -> None:
    """Draw `comparison` and write it as a PNG file at `path`, whatever its suffix; equal results give equal bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    parts = comparison.protocols
    heights = [_HEAD_INCHES + _ROW_INCHES * max(1, len(part.tests)) for part in parts]
    figure = Figure(figsize=(_WIDTH_INCHES, sum(heights) + 0.75), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    names = _short(comparison.first.model), _short(comparison.second.model)
    if names[0] == names[1]:
        names = f"{_short(comparison.first.run)}: {names[0]}", f"{_short(comparison.second.run)}: {names[1]}"
    axes = figure.subplots(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, part in zip(axes, parts, strict=True):
        _panel(axis, part, names)
    figure.legend(handles=_legend(names), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.savefig(path, format="png", metadata={"Software": None})


def _short(name: str) -> str:
    """A name that fits, with nothing that the plot would read as a formula."""
    cut = name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"
    return cut.replace("$", r"\$")


def _panel(axis: Any, part: ProtocolComparison, names: tuple[str, str]) -> None:
    limit = _limit(part.tests)
    for place, test in enumerate(part.tests):
        _line(axis, place, test, limit)
    axis.axvline(0, color="#444444", linewidth=0.8, zorder=1)
    axis.set_ylim(len(part.tests) - 0.4, -1.2)
    axis.set_xlim(-limit * 1.04, limit * 1.04)
    axis.set_yticks(range(len(part.tests)), [test.name for test in part.tests], fontsize=8, family="monospace")
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=8)
    axis.set_xlabel(f"← {names[1]} better        effect (in deviations)        {names[0]} better →", fontsize=8.5)
    axis.set_title(
        f"{part.protocol}  {part.protocol_hash}  ·  {part.n_pairs} pair{'' if part.n_pairs == 1 else 's'}",
        fontsize=9.5,
        loc="left",
    )
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    right = axis.secondary_yaxis("right")
    texts = [f"{'first':>9} {'second':>9}  {'p Holm':>7}  {'n':>4}", *(_values(test) for test in part.tests)]
    right.set_yticks(range(-1, len(part.tests)), texts, fontsize=7.5, family="monospace")
    right.tick_params(axis="y", length=0)
    right.spines["right"].set_visible(False)


def _limit(tests: Sequence[Contrast]) -> float:
    """Half width of the axis: room for most effects, never more than a few deviations."""
    ends = [abs(value) for test in tests for value in _ends(test)]
    return min(_LIMIT, max([0.5, *ends]) * 1.05)


def _ends(test: Contrast) -> list[float]:
    """Everything that a line shows, turned to the first model's side."""
    if test.effect is None:
        return []
    return [test.effect * _turn(test), *_span(test)]


def _turn(test: Contrast) -> float:
    """1 or -1: what a positive difference must be multiplied by so that right is the first model's side."""
    if test.better != "reference":
        return 1.0 if test.better == "higher" else -1.0
    if not test.difference or test.favours not in ("first", "second"):
        return 1.0
    return 1.0 if (test.difference > 0) == (test.favours == "first") else -1.0


def _span(test: Contrast) -> list[float]:
    """Both ends of the interval of a mean, or of the band of chance of a set metric; empty without either."""
    low, high = (test.low, test.high) if test.kind == "mean" else (test.null_low, test.null_high)
    if low is None or high is None or not test.scale:
        return []
    return sorted((low / test.scale * _turn(test), high / test.scale * _turn(test)))


def _line(axis: Any, place: int, test: Contrast, limit: float) -> None:
    colour = _COLOURS[test.verdict]
    if test.effect is None:
        axis.text(0, place, test.reason or "all differences are equal", fontsize=7.5, color=_COLOURS["open"],
                  ha="center", va="center", style="italic",
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
        return
    span = [max(-limit, min(limit, end)) for end in _span(test)]
    if span and test.kind == "mean":
        axis.plot(span, [place, place], color=colour, linewidth=1.6, zorder=2, solid_capstyle="butt")
    elif span:
        axis.fill_betweenx([place - 0.32, place + 0.32], span[0], span[1], color=_BAND, linewidth=0, zorder=0)
    at = test.effect * _turn(test)
    beyond = abs(at) > limit
    marker = (">" if at > 0 else "<") if beyond else ("o" if test.kind == "mean" else "D")
    axis.plot(max(-limit, min(limit, at)), place, marker=marker, color=colour, markersize=5.5, zorder=3,
              clip_on=False)  # fmt: skip


def _values(test: Contrast) -> str:
    """Both values, the adjusted p-value and n, in columns."""
    first, second = ("–" if value is None else f"{value:.4g}" for value in (test.first, test.second))
    p_value = "–" if test.p_holm is None else "< 0.001" if test.p_holm < 0.001 else f"{test.p_holm:.3f}"
    return f"{first:>9} {second:>9}  {p_value:>7}  {test.n:>4}"


def _legend(names: tuple[str, str]) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    texts = {
        "first": f"{names[0]} better (Holm p ≤ 0.05)",
        "second": f"{names[1]} better",
        "differs": "differ, no side better",
        "open": "may be chance",
    }
    handles: list[Any] = [
        Line2D([], [], color=_COLOURS[key], marker="s", linestyle="", label=text) for key, text in texts.items()
    ]
    return [
        *handles,
        Line2D([], [], color="#444444", marker="o", label="mean, 95 % interval"),
        Line2D([], [], color="#444444", marker="D", linestyle="", label="set metric"),
        Patch(color=_BAND, label="set metric: 95 % of chance"),
    ]
