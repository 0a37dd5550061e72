"""The heat map of a self-test as a picture: one panel for each protocol, columns of a panel are the damages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from macebench.selftest.heat import MARKS, colour, is_dark, label
from macebench.selftest.schema import FAILURES, Card, Cell, SelftestResult
from macebench.store import atomic_write

_CELL_W, _CELL_H = 0.62, 0.25
_LABELS, _HEAD, _GAP, _TITLE = 1.45, 0.95, 0.35, 0.75
_BETWEEN = 0.85
_DPI = 110
_FRAME = "#1a1a1a"


def write_heatmap(result: SelftestResult, path: Path) -> None:
    """Write the picture (PNG); the same result gives the same bytes with the same matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    stacks = _stacks(result)
    names = [damage.name for damage in result.damages]
    panel_w = _LABELS + _CELL_W * len(names)
    width = len(stacks) * (panel_w + _BETWEEN)
    height = _TITLE + max(sum(_height(result, name) for name in stack) for stack in stacks) + _GAP
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    _title(figure, result, width, height)
    for column, stack in enumerate(stacks):
        left, top = _GAP + column * (panel_w + _BETWEEN) + _LABELS, height - _TITLE
        for protocol in stack:
            cards, cells = result.measured(protocol)[0], result.of(protocol)[1]
            bottom = top - _HEAD - _CELL_H * len(cards)
            own = [name for name in names if any((card.column, name) in cells for card in cards)]
            box = (left / width, bottom / height, _CELL_W * len(own) / width, _CELL_H * len(cards) / height)
            _panel(figure.add_axes(box), protocol, cards, cells, own)
            top = bottom - _GAP
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI, metadata={"Software": None})


def _height(result: SelftestResult, protocol: str) -> float:
    return _HEAD + _CELL_H * len(result.measured(protocol)[0]) + _GAP


def _stacks(result: SelftestResult) -> list[list[str]]:
    """Protocols in one or two columns of about equal height; the repaired ones come first."""
    names = sorted((item.id for item in result.protocols), key=lambda name: "-fixed/" not in name)
    if len(names) == 1:
        return [names]
    stacks: tuple[list[str], list[str]] = ([], [])
    heights = [0.0, 0.0]
    for name in names:
        shorter = 0 if heights[0] <= heights[1] else 1
        stacks[shorter].append(name)
        heights[shorter] += _height(result, name)
    return list(stacks)


def _title(figure: Any, result: SelftestResult, width: float, height: float) -> None:
    left = _GAP / width
    figure.text(left, 1 - 0.25 / height, "What each number sees: d' at the strongest damage", size=13, weight="bold",
                va="center")  # fmt: skip
    marks = f"{MARKS['wrong']} wrong way   {MARKS['blind']} blind   {MARKS['changed']} moves though it must not"
    text = (
        f"{result.source}; halves of {result.n_half}, {result.repeats} splits.  Red: says worse, blue: says better, "
        f"pale: no claim.  {marks}   {MARKS['refused']} not scored"
    )
    figure.text(left, 1 - 0.53 / height, text, size=8, va="center", color="#444444")


def _panel(
    axes: Any, protocol: str, cards: Sequence[Card], cells: dict[tuple[str, str], Cell], names: Sequence[str]
) -> None:
    from matplotlib.patches import Rectangle

    axes.set_xlim(0, len(names))
    axes.set_ylim(len(cards), 0)
    for row, card in enumerate(cards):
        for place, name in enumerate(names):
            cell = cells.get((card.column, name))
            shade = colour(cell)
            rgb = tuple(part / 255 for part in shade)
            axes.add_patch(Rectangle((place, row), 1, 1, facecolor=rgb, edgecolor="white", linewidth=0.8))
            if cell is None:
                continue
            failed = cell.verdict in FAILURES
            if failed:
                axes.add_patch(Rectangle((place + 0.03, row + 0.06), 0.94, 0.88, fill=False, edgecolor=_FRAME,
                                         linewidth=1.3, zorder=3))  # fmt: skip
            ink = "white" if is_dark(shade) else "#777777" if cell.verdict == "no claim" else "black"
            axes.text(place + 0.5, row + 0.54, label(cell), size=8, ha="center", va="center", color=ink,
                      weight="bold" if failed else "normal", family="DejaVu Sans")  # fmt: skip
    axes.set_xticks([place + 0.5 for place in range(len(names))], names, rotation=32, ha="left",
                    rotation_mode="anchor", size=8)  # fmt: skip
    axes.set_yticks([row + 0.5 for row in range(len(cards))], [card.column for card in cards], size=8)
    axes.tick_params(length=0, pad=3)
    axes.xaxis.tick_top()
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.text(-_LABELS / _CELL_W, -0.55 / _CELL_H, protocol, size=11, weight="bold", va="center", ha="left")
