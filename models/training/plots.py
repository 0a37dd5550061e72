"""Pictures of a training: its losses and scores over the steps, and diversity over beta.

Pictures are drawn with matplotlib's file back end, without a display, and with fixed metadata.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from macebench.models.training._curve import STEP, read_curve
from macebench.types import FloatArray

TERMS = ("loss", "reconstruction", "velocity", "joints", "foot", "gradient")
SCORES = ("fid_k", "bas_corrected", "fsr", "div_k", "div_g")
_REAL = {"bas_corrected": "bas_corrected_real", "fsr": "fsr_real", "div_k": "div_k_real", "div_g": "div_g_real"}
_TITLES = {
    "loss": "loss (weighted sum)", "gradient": "norm of the gradient", "fid_k": "FID_k", "fid_g": "FID_g",
    "fps": "frames a second, this machine",
    "bas_corrected": "corrected BAS", "fsr": "FSR", "div_k": "DIV_k", "div_g": "DIV_g",
}  # fmt: skip
_COLUMNS = 3
_TRAIN, _VAL, _AIM = "#4477aa", "#ee6677", "#228833"


def plot_losses(run: Path, out: Path | None = None) -> Path:
    """Draw ``loss.csv`` and ``validation.csv`` of a run folder.

    Args:
        run: The run folder.
        out: The picture; None is ``loss.png`` in the run folder.

    Returns:
        The picture's path.
    """
    rows = read_curve(run / "loss.csv")
    file = run / "validation.csv"
    scores = read_curve(file) if file.is_file() else []
    shown = [name for name in SCORES if np.isfinite(_column(scores, name)).any()]
    panels = [*TERMS, *shown]
    figure = _figure(len(panels))
    for axis, name in zip(figure.axes, panels, strict=False):
        if name in TERMS:
            _draw_loss(axis, rows, scores, name)
        else:
            _draw_score(axis, scores, name)
    return _save(figure, out or run / "loss.png")


def plot_beta(values: Mapping[float, Mapping[str, Sequence[float]]], real: Mapping[str, float], out: Path) -> Path:
    """Draw diversity over the guidance temperature.

    Args:
        values: beta -> column (``div_k``, ``div_g``) -> one value a seed.
        real: Column -> value of the real dances, drawn as a line.
        out: The picture.
    """
    names = sorted({name for columns in values.values() for name in columns})
    betas = sorted(values)
    figure = _figure(len(names))
    for axis, name in zip(figure.axes, names, strict=False):
        means = [float(np.mean(values[beta][name])) for beta in betas]
        spread = [float(np.std(values[beta][name])) for beta in betas]
        axis.errorbar(betas, means, yerr=spread, color=_TRAIN, marker="o", capsize=3, label="sampled")
        if name in real:
            axis.axhline(real[name], color=_AIM, linestyle="--", label="real")
        axis.set(title=_TITLES.get(name, name), xlabel="beta")
        axis.legend(frameon=False)
    return _save(figure, out)


def plot_bars(
    table: Mapping[str, Mapping[str, Sequence[float]]], real: Mapping[str, float], title: str, out: Path
) -> Path:
    """Draw mean, spread and single values of some variants, a panel a column.

    Args:
        table: Variant -> column -> one value a seed.
        real: Column -> value of the real dances, drawn as a line.
        title: Above all.
        out: The picture.
    """
    columns = list(dict.fromkeys(name for values in table.values() for name in values))
    figure = _figure(len(columns))
    variants = list(table)
    for axis, name in zip(figure.axes, columns, strict=False):
        for place, variant in enumerate(variants):
            found = np.asarray([value for value in table[variant].get(name, ()) if np.isfinite(value)])
            if not len(found):
                continue
            axis.bar(place, found.mean(), 0.6, color=_TRAIN, alpha=0.55, yerr=found.std(), capsize=4)
            axis.plot(np.full(len(found), place), found, linestyle="", marker="o", markersize=4, color="black")
        if name in real and np.isfinite(real[name]):
            axis.axhline(real[name], color=_AIM, linestyle="--", label="real dances")
            axis.margins(y=0.2)
            axis.legend(frameon=False, fontsize=8, loc="upper right")
        axis.set_title(_TITLES.get(name, name))
        axis.set_xticks(range(len(variants)), variants, rotation=15, ha="right")
    figure.suptitle(title)
    return _save(figure, out)


def _draw_loss(
    axis: Any, rows: Sequence[Mapping[str, float]], scores: Sequence[Mapping[str, float]], name: str
) -> None:
    steps, values = _column(rows, STEP), _column(rows, name)
    axis.plot(steps, values, color=_TRAIN, alpha=0.25, linewidth=0.8)
    smooth = _smoothed(values)
    axis.plot(steps, smooth, color=_TRAIN, label="training")
    held = _column(scores, "val_total" if name == "loss" else f"val_{name}")
    if np.isfinite(held).any():
        axis.plot(_column(scores, STEP), held, color=_VAL, marker="o", markersize=3, label="held out, fixed times")
    positive = np.concatenate([values, held])
    if np.nanmin(positive, initial=np.inf) > 0 and np.isfinite(positive).any():
        axis.set_yscale("log")
    axis.set(title=_TITLES.get(name, name), xlabel="step")
    axis.legend(frameon=False, fontsize=8)


def _draw_score(axis: Any, scores: Sequence[Mapping[str, float]], name: str) -> None:
    steps = _column(scores, STEP)
    axis.plot(steps, _column(scores, name), color=_VAL, marker="o", markersize=3, label="sampled")
    if name in _REAL:
        axis.plot(steps, _column(scores, _REAL[name]), color=_AIM, linestyle="--", label="real dances")
    axis.set(title=_TITLES.get(name, name), xlabel="step")
    axis.legend(frameon=False, fontsize=8)


def _smoothed(values: FloatArray) -> FloatArray:
    """Running mean over one fiftieth of the steps; values that are none are left out."""
    width = max(len(values) // 50, 1)
    weights = np.ones(width)
    known = np.isfinite(values)
    total = np.convolve(np.where(known, values, 0.0), weights, "same")
    count = np.convolve(known.astype(float), weights, "same")
    return np.asarray(np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)[: len(values)])


def _column(rows: Sequence[Mapping[str, float]], name: str) -> FloatArray:
    return np.array([row.get(name, np.nan) for row in rows], dtype=np.float64)


def _figure(panels: int) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, max(panels, 1))
    lines = -(-max(panels, 1) // columns)
    figure = Figure(figsize=(4.4 * columns, 3.0 * lines + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.subplots(lines, columns, squeeze=False)
    for axis in figure.axes[panels:]:
        axis.remove()
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _save(figure: Any, out: Path) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110, metadata={"Software": None})
    return out
