"""Scores a checkpoint of the Motion Expert on music that it never heard, beside what it must beat.

Music and ground truth are the clips ``demo-train-0000`` and on of the demo data set, the reference its clips
``demo-test-0000`` and on, composed and choreographed without a picture. No training set holds any of them
(`macebench.dances.sources.training_seed`). Beats come from the sound, by the protocol's tracker; all numbers from the
registered metrics under ``motion3d-fixed/1``. Each row is scored on the same pieces, so p-values are paired: sign
flips for beat alignment, swapped labels for Fréchet distances.

Usage: bench_embedded.py [--checkpoint FILE_OR_RUN_FOLDER] [--clips N] [--reference N] [--steps N] [--genre none|own]
[--out DIR] [--threads K]. Without --checkpoint the one in the package is taken; a run folder of ``macebench train``
gives the running mean of its newest checkpoint. With --out the table, values of each clip, music and dances are kept.
"""

import argparse
import csv
import json
import math
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from macebench import registry
from macebench.aggregate import values_of
from macebench.demo.choreography import choreograph
from macebench.demo.dataset import DemoConfig, plan_clips
from macebench.demo.music import compose
from macebench.media import Decoder, file_sha256, write_wav
from macebench.metrics.beats import music_beats
from macebench.metrics.statistics import frechet_statistic, permutation_test, sign_flip_test
from macebench.models.motion_expert.checkpoint import Checkpoint
from macebench.models.motion_expert.expert import MotionExpert
from macebench.models.motion_expert.music import music_features
from macebench.models.retrieval import NearestMusic, RandomPhrases
from macebench.protocol import Protocol, load_protocol
from macebench.scoring import score_clip
from macebench.tables import ClipRow
from macebench.types import Beats, Clip, Evidence, FeatureSet, FloatArray, Missing, Motion

PROTOCOL = "motion3d-fixed/1"
METRICS = ("fid_k_3d", "fid_g_3d", "div_k_3d", "div_g_3d", "bas_3d", "fsr_3d", "pfc_3d")
COLUMNS = ("fid_k", "fid_g", "div_k", "div_g", "bas_corrected", "fsr", "pfc")
BETAS = (0.25, 0.5, 0.75, 1.0)
BETA = 0.75
FPS, SECONDS = 30.0, 5.0
TRUTH = "ground-truth"
RETRIEVAL = ("random-phrases", "nearest-music")
CALIBRATION = ("random-music", "half-speed", "jitter", "frozen")
LESS_ALIGNED = ("random-phrases", "nearest-music", "random-music")
FARTHER = ("half-speed", "jitter", "frozen")
PERMUTATIONS = 9999
NONE = Missing("no picture")


@dataclass(frozen=True)
class Piece:
    """Held-out music, its features and beats, and the dance that was made for it."""

    path: Path
    genre: str
    features: FloatArray
    real: Evidence


@dataclass(frozen=True)
class Scored:
    """A row of the table: `COLUMNS`, and what each clip got."""

    values: Mapping[str, float]
    rows: Sequence[ClipRow]

    def of_clips(self, column: str) -> FloatArray:
        """(n,) values of the clips, NaN where there is none."""
        return np.array([row.values.get(column, math.nan) for row in self.rows])

    def features(self, name: str) -> FloatArray:
        """(n, F) features of the clips."""
        return np.stack([row.features[name] for row in self.rows])


@dataclass(frozen=True)
class Test:
    """A paired comparison with the model at `BETA`."""

    column: str
    other: str
    difference: float
    p_value: float
    n: int


def model_row(beta: float) -> str:
    """Name of the model's row at a temperature."""
    return f"motion-expert {beta:g}"


# ---- pieces ---------------------------------------------------------------------------------------------------------


def real_dance(genre: str, seed: int, seconds: float) -> tuple[Motion, FloatArray, int]:
    """The procedural dance, samples and sample rate of a clip of the demo data set."""
    piece = compose(genre, seconds, seed)
    grid = piece.beats_s[0] + 60.0 / piece.tempo_bpm * np.arange(len(piece.beats_s) + 1)
    return choreograph(grid, seconds, FPS, seed, genre).motion, piece.samples, piece.sample_rate


def planned(split: str, count: int, seconds: float) -> list:
    """The first `count` clips of a half of the demo data set; a larger set has the same first clips."""
    config = DemoConfig(n_clips=max(2, 2 * count), seconds=seconds)
    return [clip for clip in plan_clips(config) if clip.split == split][:count]


def make_pieces(folder: Path, protocol: Protocol, count: int, seconds: float = SECONDS) -> list[Piece]:
    """Held-out pieces with sound files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rules = protocol.need_beats()
    pieces = []
    with Decoder() as decoder:
        for clip in planned("train", count, seconds):
            motion, samples, rate = real_dance(clip.genre, clip.seed, seconds)
            path = write_wav(folder / f"{clip.clip_id}.wav", samples, rate)
            sound = decoder.audio(path, rules.music_sample_rate)
            beats = music_beats(sound.samples, sound.sample_rate, variant=rules.music_variant) + sound.start_s
            features = music_features(path)[: len(motion)]
            digest = file_sha256(path)
            heard = Beats(beats, seconds)
            known = Evidence(Clip(clip.clip_id, path, digest, music_sha256=digest), seconds, NONE, heard, NONE, motion)
            pieces.append(Piece(path, clip.genre, features, known))
    return pieces


def make_reference(count: int, seconds: float = SECONDS) -> list[Evidence]:
    """Real dances of the other half, without their music."""
    found = []
    for clip in planned("test", count, seconds):
        motion, _, _ = real_dance(clip.genre, clip.seed, seconds)
        found.append(Evidence(Clip(clip.clip_id, Path(clip.clip_id), ""), seconds, NONE, NONE, NONE, motion))
    return found


# ---- rows -----------------------------------------------------------------------------------------------------------


def danced(pieces: Sequence[Piece], motions: Sequence[Motion]) -> list[Evidence]:
    """The pieces with other dances."""
    return [piece.real.replace(motion=motion) for piece, motion in zip(pieces, motions, strict=True)]


def sampled(expert: MotionExpert, pieces: Sequence[Piece], beta: float, steps: int, genre: str) -> list[Motion]:
    """A dance of the model for each piece; the seed is the number of the piece. CFG takes the scale 1 / beta."""
    knob = {"beta": beta} if expert.config.guidance == "gft" else {"scale": 1.0 / beta}
    names = {piece.genre if genre == "own" else None for piece in pieces}
    found: dict[int, Motion] = {}
    for name in sorted(names, key=str):
        rows = [row for row, piece in enumerate(pieces) if name is None or piece.genre == name]
        made = expert.sample([pieces[row].features for row in rows], name, seeds=rows, steps=steps, **knob)
        found |= dict(zip(rows, made, strict=True))
    return [found[row] for row in range(len(pieces))]


def baselines(pieces: Sequence[Piece], training_set: str | None = None) -> dict[str, list[Evidence]]:
    """Ground truth, retrieval and calibration rows."""
    real = [piece.real for piece in pieces]
    random, nearest = RandomPhrases(training_set), NearestMusic(training_set)
    rows = {TRUTH: real}
    rows["random-phrases"] = danced(pieces, [random.dance(len(p.real.need_motion()), k) for k, p in enumerate(pieces)])
    rows["nearest-music"] = danced(pieces, [nearest.dance(p.features, k) for k, p in enumerate(pieces)])
    for name in CALIBRATION:
        model = registry.get("models", name)()
        rows[name] = [model.transform(real, index) for index in range(len(real))]
    return rows


def score(evidence: Sequence[Evidence], reference: Sequence[ClipRow], protocol: Protocol, name: str) -> Scored:
    """One row of the table."""
    metrics = [registry.get_metric(metric) for metric in METRICS]
    rows = [score_clip(item, protocol, metrics, model=name, role="generated") for item in evidence]
    values: dict[str, float] = {}
    for metric in metrics:
        if metric.feature is None:
            for column in metric.columns:
                known = [v for row in rows if math.isfinite(v := row.values.get(column.name, math.nan))]
                values[column.name] = math.fsum(known) / len(known) if known else math.nan
        else:
            sets = [FeatureSet(np.stack([row.features[metric.feature] for row in part])) for part in (rows, reference)]
            values |= values_of(metric, metric.compute(*sets, protocol))[0]
    return Scored({column: values[column] for column in COLUMNS}, rows)


def reference_rows(reference: Sequence[Evidence], protocol: Protocol) -> list[ClipRow]:
    """Features of the reference."""
    metrics = [metric for name in METRICS if (metric := registry.get_metric(name)).feature is not None]
    return [score_clip(item, protocol, metrics, model="reference", role="reference") for item in reference]


def compare(table: Mapping[str, Scored], reference: Sequence[ClipRow], protocol: Protocol) -> list[Test]:
    """The model at `BETA` against the rows that it must beat."""
    mine = table[model_row(BETA)]
    tests = []
    for other in (*LESS_ALIGNED, TRUTH):
        gap = mine.of_clips("bas_corrected") - table[other].of_clips("bas_corrected")
        known = gap[np.isfinite(gap)]
        found = sign_flip_test(known, n_permutations=PERMUTATIONS)
        tests.append(Test("bas_corrected", other, found.mean, found.p_value, found.n))
    rules = protocol.need_normaliser()
    options = {"normalise": rules.mode, "eps": rules.eps, "ddof": rules.ddof, "drop_below": rules.drop_below}
    statistic = frechet_statistic(np.stack([row.features["kinetic_3d"] for row in reference]), **options)
    for other in FARTHER:
        sets = [scored.features("kinetic_3d") for scored in (mine, table[other])]
        swapped = permutation_test(*sets, statistic, n_permutations=499)
        tests.append(Test("fid_k", other, swapped.difference, swapped.p_value, swapped.n))
    return tests


@dataclass(frozen=True)
class Outcome:
    """The whole table: rows by name, in their order, tests, dances of the model by beta, and frames a second."""

    table: Mapping[str, Scored]
    tests: Sequence[Test]
    dances: Mapping[float, Sequence[Motion]]
    pieces: Sequence[Piece]
    fps: float


def measure(
    expert: MotionExpert,
    folder: Path,
    *,
    clips: int = 32,
    reference: int = 64,
    steps: int = 50,
    genre: str = "none",
    betas: Sequence[float] = BETAS,
    training_set: str | None = None,
) -> Outcome:
    """Sample and score everything; sound files are written to `folder`."""
    protocol = load_protocol(PROTOCOL)
    pieces = make_pieces(folder, protocol, clips)
    others = reference_rows(make_reference(reference), protocol)
    dances = {beta: sampled(expert, pieces, beta, steps, genre) for beta in betas}
    fixed = baselines(pieces, training_set)
    rows = {TRUTH: fixed.pop(TRUTH)}
    rows |= {model_row(beta): danced(pieces, motions) for beta, motions in dances.items()}
    table = {name: score(evidence, others, protocol, name) for name, evidence in (rows | fixed).items()}
    return Outcome(table, compare(table, others, protocol), dances, pieces, expert.timing.fps)


# ---- output ---------------------------------------------------------------------------------------------------------


def open_expert(path: str | None) -> MotionExpert:
    """A checkpoint, the package's own for None, or the running mean of a run folder's newest checkpoint."""
    if path is None or not Path(path).is_dir():
        return MotionExpert.open(path, "cpu")
    return MotionExpert(of_run(Path(path)), "cpu")


def of_run(folder: Path) -> Checkpoint:
    """The running mean of a training that is not finished."""
    import torch

    from macebench.models.diffusion.ema import EMA
    from macebench.models.motion_expert.config import MotionExpertConfig
    from macebench.models.motion_expert.network import MotionExpertNetwork
    from macebench.models.training._datasets import open_data
    from macebench.models.training._state import checkpoints, read_checkpoint
    from macebench.models.training.config import load_config
    from macebench.models.training.trainer import CONFIG, DATA

    found = checkpoints(folder)
    if not found:
        raise SystemExit(f"{folder} has no checkpoint")
    settings, values = load_config(folder / CONFIG), read_checkpoint(found[-1][1], torch.device("cpu"))
    fields = json.loads(values["identity"])["network"]
    known = {name: value for name, value in fields.items() if value or name in MotionExpertConfig.model_fields}
    config = MotionExpertConfig.model_validate(known)
    network = MotionExpertNetwork(config).eval()
    mean = EMA(network, settings.ema_decay)
    mean.load_state_dict(values["ema"])
    mean.copy_to(network)
    data = open_data(settings.data, folder / DATA)
    return Checkpoint(network, config, data.normalizer, {"preset": settings.model, "steps": values["step"]})


def trend(values: Sequence[float]) -> str:
    """``rises`` or ``falls`` from each value to the next, else ``neither``."""
    steps = np.diff(values)
    return "rises" if (steps > 0).all() else "falls" if (steps < 0).all() else "neither"


def as_markdown(outcome: Outcome) -> str:
    """Table and tests."""
    lines = ["| row | " + " | ".join(COLUMNS) + " | n |", "|---" * (len(COLUMNS) + 2) + "|"]
    for name, scored in outcome.table.items():
        n = int(np.isfinite(scored.of_clips("bas_corrected")).sum())
        lines.append(f"| {name} | " + " | ".join(f"{scored.values[column]:.4g}" for column in COLUMNS) + f" | {n} |")
    lines += ["", f"{model_row(BETA)} minus the other, paired:", ""]
    lines += ["| column | other | difference | p | n |", "|---|---|---|---|---|"]
    for test in outcome.tests:
        lines.append(f"| {test.column} | {test.other} | {test.difference:+.4g} | {test.p_value:.4f} | {test.n} |")
    truth = outcome.table[TRUTH].values["fsr"]
    ratio = outcome.table[model_row(BETA)].values["fsr"] / truth if truth else math.nan
    spread = [outcome.table[model_row(beta)].values["div_k"] for beta in sorted(outcome.dances)]
    lines += ["", f"FSR over ground truth's: {ratio:.3f}; DIV_k with beta: {trend(spread)}; {outcome.fps:.0f} frames/s"]
    return "\n".join(lines) + "\n"


def keep(outcome: Outcome, out: Path) -> None:
    """Write the table, the values of each clip, and the dances of the model."""
    from macebench.motion import write_motion

    (out / "table.md").write_text(as_markdown(outcome), "utf-8")
    with (out / "clips.csv").open("w", newline="", encoding="utf-8") as file:
        names = [column for column in COLUMNS if not column.startswith(("fid", "div"))]
        writer = csv.writer(file)
        writer.writerow(["row", "clip", *names])
        for name, scored in outcome.table.items():
            writer.writerows([name, row.clip_id, *(row.values.get(key) for key in names)] for row in scored.rows)
    for beta, motions in outcome.dances.items():
        folder = out / f"dances-{beta:g}"
        folder.mkdir(exist_ok=True)
        for piece, motion in zip(outcome.pieces, motions, strict=True):
            write_motion(folder / f"{piece.path.stem}.npz", motion)


def main() -> None:
    """Measure and print."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint")
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--reference", type=int, default=64)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--genre", choices=("none", "own"), default="none")
    parser.add_argument("--training-set", help="where retrieval takes its phrases from; procedural pieces without it")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    expert = open_expert(options.checkpoint)
    torch.set_num_threads(options.threads)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        out = options.out or Path(scratch)
        outcome = measure(
            expert, out / "music", clips=options.clips, reference=options.reference, steps=options.steps,
            genre=options.genre, training_set=options.training_set,
        )  # fmt: skip
        if options.out:
            keep(outcome, options.out)
    card = {key: expert.card.get(key) for key in ("preset", "steps", "seed", "config_hash")}
    sys.stdout.write(f"{card}, {options.steps} denoising steps, {time.perf_counter() - begun:.0f} s\n\n")
    sys.stdout.write(as_markdown(outcome))


if __name__ == "__main__":
    main()
