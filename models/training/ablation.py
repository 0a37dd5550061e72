"""The ablations of the paper's Table 2 at one equal budget: the same steps, batch, data and seeds for every variant.

| variant | what differs |
|---|---|
| `full` | bidirectional Mamba, guidance-free training |
| `bimamba->mamba` | Mamba in one direction |
| `bimamba->transformer` | self-attention in place of Mamba |
| `gft->cfg` | classifier-free guidance in training and sampling: two network passes a step |

Each variant and seed is a run folder of its own (`macebench.models.training.trainer`), so that an ablation that was
stopped goes on. After its training a variant dances to held-out music; the dances are scored with our metrics against
held-out real dances of the same length (`macebench.models.training._score`). The time of sampling is that of this
machine and of a batch; it says how variants compare, not what the paper's hardware does.

The order that comes out is written as it was measured.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from macebench import registry
from macebench.errors import UserError
from macebench.models.training._datasets import open_data
from macebench.models.training._device import find_place
from macebench.models.training._resume import Budget, budgets_in
from macebench.models.training._score import SCORES, score_motions
from macebench.models.training._state import write_atomically
from macebench.models.training.config import TrainingConfig, ValidationSettings, config_from_plain
from macebench.models.training.data import TrainingSet
from macebench.models.training.plots import plot_bars, plot_beta
from macebench.models.training.trainer import DATA, Run, train
from macebench.models.training.validation import MAX_REFERENCE, HeldOut, held_out, sample, spread
from macebench.protocol import load_protocol

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "full": {},
    "bimamba->mamba": {"network": {"mixer": "mamba"}},
    "bimamba->transformer": {"network": {"mixer": "transformer"}},
    "gft->cfg": {"guidance": "cfg"},
}
FPS = "fps"
COLUMNS = (*SCORES, FPS)
TITLES = {
    "fid_k": "FID_k", "fid_g": "FID_g", "div_k": "DIV_k", "div_g": "DIV_g", "bas_corrected": "BAS corrected",
    "fsr": "FSR", "fps": "frames/s",
}  # fmt: skip
SCORE_FILE, TABLE, MARKDOWN, PLOT, BETA_PLOT = "scores.json", "table.csv", "table.md", "ablation.png", "beta.png"
REAL = "real dances"
Progress = Callable[[str, int, int], None]
Say = Callable[[str], None]
Values = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Ablation:
    """What is to be done.

    Attributes:
        config: Settings of `full`; the variants change `VARIANTS` of it, its seed is that of the first training.
        out: Folder of the ablation.
        seeds: Trainings of each variant.
        variants: Names; empty means all.
        clips: Dances that are sampled of each training.
        ddim_steps: Denoising steps of a sample.
        betas: Temperatures at which the diversity of `full` is measured.
        limit: Use the first so many sequences of each data set only.
        workers: Processes that build the training set.
    """

    config: TrainingConfig
    out: Path
    seeds: int = 3
    variants: tuple[str, ...] = ()
    clips: int = 32
    ddim_steps: int = 50
    betas: tuple[float, ...] = ()
    limit: int | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        for name in self.variants:
            if name not in VARIANTS:
                raise registry.unknown("variant", name, VARIANTS, "macebench ablate motion-expert --help")
        differs = [name for name in ("guidance",) if getattr(self.config, name) == "cfg"]
        if differs or self.config.network.get("mixer", "bimamba") != "bimamba":
            raise UserError(
                "the settings of an ablation are those of the full model: mixer bimamba and a form of GFT.",
                hint="Leave out guidance=cfg and network.mixer; use --variant to choose.",
            )

    @property
    def chosen(self) -> tuple[str, ...]:
        """The variants in the order of the table."""
        return tuple(name for name in VARIANTS if not self.variants or name in self.variants)

    def validation(self) -> ValidationSettings:
        """How dances are sampled after a training."""
        return self.config.validation.model_copy(update={"clips": self.clips, "ddim_steps": self.ddim_steps})


@dataclass(frozen=True)
class AblationResult:
    """What was measured.

    Attributes:
        values: Variant -> column of `COLUMNS` -> one value a seed; NaN where there is none.
        real: The real dances' own values.
        lacking: Values that could not be computed.
        markdown: The table as text.
        table: ``table.csv``.
        plot: The picture.
    """

    values: Values
    real: Mapping[str, float]
    lacking: int
    markdown: str
    table: Path
    plot: Path


def parse_betas(text: str | None) -> tuple[float, ...]:
    """Temperatures from ``0.25,0.5,1``. Raises `UserError` for what is no number in (0, 1]."""
    try:
        found = tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise UserError(f"--betas is {text!r}; numbers with commas between are allowed.") from error
    if any(not 0 < value <= 1 for value in found):
        raise UserError(f"--betas is {text!r}; numbers above 0, 1 at most, are allowed.")
    return found


def variant_config(config: TrainingConfig, variant: str, seed: int) -> TrainingConfig:
    """The settings of one training of a variant: those of `full` with the variant's changes and a seed."""
    values = config.plain() | {"seed": seed}
    for name, change in VARIANTS[variant].items():
        values[name] = values[name] | change if isinstance(change, Mapping) else change
    values["validation"] = values["validation"] | {"clips": 0}
    return config_from_plain(values)


def ablate(job: Ablation, progress: Progress | None = None, say: Say | None = None) -> AblationResult:
    """Train what is not trained yet, sample, score, and write ``table.csv``, ``table.md`` and the pictures.

    Raises:
        UserError: as `macebench.models.training.trainer.train`; fewer than two held-out pieces; a training in the
            folder that had another budget.
    """
    tell: Say = say or (lambda _: None)
    data = open_data(job.config.data, job.out / DATA, limit=job.limit, workers=job.workers, progress=progress)
    _pieces(data, job.config, job)  # before hours of training
    _check_budgets(job)
    values: Values = {name: {column: [] for column in COLUMNS} for name in job.chosen}
    real: Mapping[str, float] = {}
    for number in range(job.seeds):
        for name in job.chosen:
            seed = job.config.seed + number
            tell(f"{name}, seed {seed}")
            found = _measured(job, name, seed, progress, say)
            real = found["real"]
            for column in COLUMNS:
                values[name][column].append(_number(found["scores"].get(column)))
    if job.betas and "full" in job.chosen:
        _sweep(job, real, progress)
    return _write(job, values, real)


def _check_budgets(job: Ablation) -> None:
    """Refuse trainings that are there already and had other steps or processes, or were changed on the way."""
    wanted = Budget(job.config.steps, find_place(job.config).world)
    for number in range(job.seeds):
        for name in job.chosen:
            out = job.out / folder_name(name, job.config.seed + number)
            for found in budgets_in(out):
                if found == wanted:
                    continue
                was = "; ".join((found.text, *found.history))
                raise UserError(
                    f"{out} has another budget ({was}) than the {wanted.text} that are asked for.",
                    hint="Use another --out, or remove that folder.",
                )


def _measured(job: Ablation, variant: str, seed: int, progress: Progress | None, say: Say | None) -> dict[str, Any]:
    """Train and score one variant with one seed, unless that was done before."""
    config = variant_config(job.config, variant, seed)
    out = job.out / folder_name(variant, seed)
    key = {
        "config": config.hash,
        "clips": job.clips,
        "sampling": job.validation().model_dump(mode="json"),
        "limit": job.limit,
    }
    file = out / SCORE_FILE
    known = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    if known.get("key") == key:
        return dict(known)
    train(config, out, limit=job.limit, workers=job.workers, progress=progress, say=say, data_folder=job.out / DATA)
    run = _open(job, config, out)
    items = _pieces(run.data, config, job)
    found = {"key": key, **_score(run, items, job.validation(), progress)}
    text = json.dumps(found, indent=2, sort_keys=True) + "\n"
    write_atomically(file, lambda path: path.write_text(text, "utf-8"))
    return found


def _open(job: Ablation, config: TrainingConfig, out: Path) -> Run:
    return Run.open(
        config, out, resume=True, limit=job.limit, workers=job.workers, record=False, data_folder=job.out / DATA
    )


def _pieces(data: TrainingSet, config: TrainingConfig, job: Ablation) -> list[HeldOut]:
    frames = job.validation().frames or config.window_frames()
    items = held_out(data, frames, max(MAX_REFERENCE, job.clips))
    if len(items) < 2:
        raise UserError(
            f"the data has {len(items)} held-out pieces of {frames} frames; 2 at least are needed.",
            hint="Use more data, or shorter pieces with `--set validation.frames=150`.",
        )
    return items


def _score(
    run: Run, items: Sequence[HeldOut], rules: ValidationSettings, progress: Progress | None
) -> dict[str, dict[str, float | None]]:
    """Scores and frames a second of a trained run, and the real dances' own scores."""
    chosen = spread(items, rules.clips)
    network = run.ema_network()
    sample(network, chosen[:1], run.data, run.config, run.place, settings=rules.model_copy(update={"ddim_steps": 1}))
    seconds: list[float] = []
    made = sample(network, chosen, run.data, run.config, run.place, progress, settings=rules, seconds=seconds)
    real = [item.real for item in items]
    protocol = load_protocol(rules.protocol)
    frames = sum(len(item.need_motion()) for item in made)
    scores = score_motions(made, real, protocol) | {FPS: frames / sum(seconds)}
    return {"scores": _plain(scores), "real": _plain(score_motions(real, real, protocol))}


def _sweep(job: Ablation, real: Mapping[str, float], progress: Progress | None) -> None:
    """Diversity of `full` over beta, for all seeds."""
    found: dict[float, dict[str, list[float]]] = {beta: {"div_k": [], "div_g": []} for beta in job.betas}
    for number in range(job.seeds):
        seed = job.config.seed + number
        config = variant_config(job.config, "full", seed)
        run = _open(job, config, job.out / folder_name("full", seed))
        chosen = spread(_pieces(run.data, config, job), job.clips)
        for beta in job.betas:
            rules = job.validation().model_copy(update={"beta": beta})
            made = sample(run.ema_network(), chosen, run.data, config, run.place, progress, settings=rules)
            scores = score_motions(made, [item.real for item in chosen], load_protocol(rules.protocol))
            for column, held in found[beta].items():
                held.append(scores[column])
    rows = [{"beta": beta, **{name: float(np.mean(held)) for name, held in found[beta].items()}} for beta in job.betas]
    text = json.dumps({"seeds": job.seeds, "rows": rows}, indent=2) + "\n"
    write_atomically(job.out / "beta.json", lambda path: path.write_text(text, "utf-8"))
    plot_beta(found, {name: _number(real.get(name)) for name in ("div_k", "div_g")}, job.out / BETA_PLOT)


def _write(job: Ablation, values: Values, real: Mapping[str, float]) -> AblationResult:
    aims = {name: _number(real.get(name)) for name in SCORES}
    text = markdown(job, values, aims)
    rows = _table(values, aims)
    write_atomically(job.out / TABLE, lambda path: path.write_text(rows, "utf-8"))
    write_atomically(job.out / MARKDOWN, lambda path: path.write_text(text, "utf-8"))
    aims_drawn = {name: value for name, value in aims.items() if not name.startswith("fid")}
    plot = plot_bars(values, aims_drawn, budget(job), job.out / PLOT)
    lacking = sum(not math.isfinite(value) for held in values.values() for cells in held.values() for value in cells)
    return AblationResult(values, aims, lacking, text, job.out / TABLE, plot)


def budget(job: Ablation) -> str:
    """One line on what every variant got."""
    config = job.config
    first, last = config.seed, config.seed + job.seeds - 1
    seeds = f"seed {first}" if job.seeds == 1 else f"seeds {first} to {last}"
    return (
        f"Equal budget of {config.steps} steps of {config.batch} windows of {config.window_frames()} frames, "
        f"preset {config.model}, {seeds}"
    )


def markdown(job: Ablation, values: Values, real: Mapping[str, float]) -> str:
    """The table as Markdown: mean and standard deviation over the seeds."""
    lines = [
        f"{budget(job)}; data: {', '.join(job.config.data)}; {job.clips} sampled dances each, {job.ddim_steps} "
        "denoising steps. Mean, and after +- the standard deviation over the seeds. As measured.",
        "",
        "| variant | " + " | ".join(TITLES[name] for name in COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for name, held in values.items():
        lines.append(f"| {name} | " + " | ".join(_cell(held[column]) for column in COLUMNS) + " |")
    cells = ["-" if name.startswith("fid") or name == FPS else _cell([real[name]]) for name in COLUMNS]
    return "\n".join([*lines, f"| {REAL} | " + " | ".join(cells) + " |"]) + "\n"


def _cell(values: Sequence[float]) -> str:
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return "-"
    few = "" if len(known) == len(values) else f" (n={len(known)})"
    spread_text = f" +- {np.std(known, ddof=1):.3g}" if len(known) > 1 else ""
    return f"{np.mean(known):.4g}{spread_text}{few}"


def _table(values: Values, real: Mapping[str, float]) -> str:
    """CSV: a row a variant and column, with mean, deviation, and the value of each seed."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    n = max((len(cells) for held in values.values() for cells in held.values()), default=0)
    writer.writerow(["variant", "column", "n", "mean", "deviation", *(f"seed_{number}" for number in range(n))])
    for name, held in values.items():
        for column, cells in held.items():
            known = [value for value in cells if math.isfinite(value)]
            mean = f"{np.mean(known):.9g}" if known else ""
            deviation = f"{np.std(known, ddof=1):.9g}" if len(known) > 1 else ""
            each = [f"{value:.9g}" if math.isfinite(value) else "" for value in cells]
            writer.writerow([name, column, len(known), mean, deviation, *each])
    for column, value in real.items():
        if math.isfinite(value) and not column.startswith("fid"):
            writer.writerow([REAL, column, 1, f"{value:.9g}", "", *[""] * n])
    return file.getvalue()


def folder_name(variant: str, seed: int) -> str:
    """Name of the run folder of one training."""
    return f"{re.sub('[^a-z0-9]+', '-', variant)}-seed{seed}"


def _plain(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _number(value: float | None) -> float:
    return math.nan if value is None else value
