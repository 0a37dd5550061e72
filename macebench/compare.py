"""Two models, clip against clip: which differences are more than chance.

Read are two run folders (or one, with two models). Only what has the same resolved protocol is compared; clips are
paired by id and music, and the pieces of one file, or of one piece of music, stay together in every test.

- Set metrics (Fréchet distance and the like): paired permutation test. They have no interval; shown beside the
  difference is the band that chance alone gives.
- Means of clip metrics: sign flip test, studentised bootstrap over clusters, Cohen's d_z. A mean that weights clips
  (by their frame pairs) is compared as that: swapped and drawn are values with their weights.
- All p-values of a protocol are adjusted after Holm.
- Tested is whether two values differ. Where nearer to the reference's value is better, that names no better model when
  the two lie on both sides of it and about as far away (`compare_records.Contrast.opposite`).

The statistics are in `macebench.metrics.statistics`, the schema of the result in `macebench.compare_records`.
Metrics whose permutations are costly get at most `COSTLY_PERMUTATIONS` of them. A standard error (``*_se``) is no score
and is not tested, and neither is a column that only weights another one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pydantic import ValidationError

from macebench.aggregate import metrics_of, reference_scores, values_of
from macebench.compare_pairs import Pairs, Row, Usable, pair_rows, parts_of, usable_pairs, vector_of
from macebench.compare_records import Comparison, Contrast, Favours, ProtocolComparison, Side, as_csv, number
from macebench.errors import Unscorable, UserError
from macebench.metrics import statistics
from macebench.metrics._sets import MIN_INFINITY, MIN_KERNEL
from macebench.protocol import Protocol
from macebench.registry import Column, Metric
from macebench.results import CLIPS_FILE, EXTRAPOLATED, FEATURE_PREFIX, Entry, RunResult, ScoreRecord
from macebench.run import Progress, silent
from macebench.store import atomic_write, write_text
from macebench.tables import read_clips
from macebench.types import FeatureSet, FloatArray

if TYPE_CHECKING:
    import pandas as pd

JSON_FILE, CSV_FILE, PLOT_FILE = "compare.json", "compare.csv", "compare.png"
COSTLY_PERMUTATIONS = 500
ERROR_SUFFIX = "_se"
UNKNOWN_METRIC = "no registered metric; give its --plugin"
TOO_FEW = "fewer than 2 independent pairs"
_AGREE = 1e-6
_SAME_STATISTIC = 1e-9


@dataclass(frozen=True)
class _Run:
    """A run folder that was read, and the model of it that is compared."""

    path: Path
    result: RunResult
    clips: pd.DataFrame
    model: str

    @property
    def side(self) -> Side:
        return Side(run=self.path.resolve().name, model=self.model, clips_sha256=self.result.clips_sha256)

    def rows(self, digest: str, role: str) -> list[dict[str, Any]]:
        """Rows of the model, or of the reference set, under a protocol, by clip id."""
        table = self.clips[(self.clips["protocol_hash"] == digest) & (self.clips["role"] == role)]
        if role == "generated":
            table = table[table["model"] == self.model]
        records: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
        return sorted(records, key=lambda row: str(row["clip_id"]))

    def reference(self, digest: str) -> pd.DataFrame:
        """Reference rows of a protocol."""
        return self.clips[(self.clips["protocol_hash"] == digest) & (self.clips["role"] == "reference")]


@dataclass(frozen=True)
class _Settings:
    n_permutations: int
    seed: int
    level: float


def compare_runs(
    first: Path,
    second: Path,
    *,
    model_first: str | None = None,
    model_second: str | None = None,
    protocol: str | None = None,
    n_permutations: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    progress: Progress = silent,
) -> Comparison:
    """Compare a model of one run with a model of another, or of the same run.

    Args:
        first: Run folder.
        second: Run folder; may be the same.
        model_first: Row of the first run; None takes its first row that is no calibration row.
        model_second: Row of the second run.
        protocol: Id or hash of the only protocol to compare; None takes all that both have.
        n_permutations: Permutations and resamples a test.
        seed: Seed of all of them.
        level: Coverage of the intervals.
        progress: Called after every test.

    Raises:
        UserError: a folder is no run, a model is not in it, no resolved protocol is in both, or their reference rows
            differ.
    """
    if n_permutations < 1:
        raise UserError(f"{n_permutations} permutations cannot be drawn.", hint="Give 1000 or more.")
    one, two = _read(first, model_first), _read(second, model_second)
    settings = _Settings(n_permutations, seed, level)
    parts = [_compare(one, two, item, settings, progress) for item in _common(one, two, protocol)]
    return Comparison(
        first=one.side, second=two.side, n_permutations=n_permutations, seed=seed, level=level, protocols=parts
    )


def write_comparison(comparison: Comparison, out: Path) -> list[Path]:
    """Write ``compare.json``, ``compare.csv`` and ``compare.png`` into the folder `out`; equal results, equal bytes.

    Raises:
        UserError: the folder cannot be written.
    """
    from macebench.compare_plot import forest_plot

    write_text(out / JSON_FILE, comparison.model_dump_json(indent=1) + "\n")
    write_text(out / CSV_FILE, as_csv(comparison))
    with atomic_write(out / PLOT_FILE) as temporary:
        forest_plot(comparison, temporary)
    return [out / name for name in (JSON_FILE, CSV_FILE, PLOT_FILE)]


def _read(path: Path, model: str | None) -> _Run:
    path = Path(path)
    result = RunResult.read(path)
    return _Run(path, result, read_clips(path / CLIPS_FILE), _model(path, result.entries, model))


def _model(path: Path, entries: Sequence[Entry], name: str | None) -> str:
    names = list(dict.fromkeys(entry.model.name for entry in entries))
    if name in names:
        return name
    if name is not None or not names:
        raise UserError(f"run {path} has no model {name or ''!r}.", hint=f"It has {', '.join(names) or 'no rows'}.")
    evaluated = [entry.model.name for entry in entries if entry.model.kind != "calibration"]
    return [*evaluated, *names][0]


def _common(one: _Run, two: _Run, wanted: str | None) -> list[Protocol]:
    """The resolved protocols that both models were scored under."""
    mine, theirs = _protocols(one), _protocols(two)
    if wanted is not None:
        mine, theirs = (
            {digest: item for digest, item in part.items() if wanted in (item.id, item.name, digest)}
            for part in (mine, theirs)
        )
        for run, found in ((one, mine), (two, theirs)):
            if not found:
                known = ", ".join(item.id for item in _protocols(run).values())
                raise UserError(f"run {run.path} has no scores of {run.model} under {wanted}.", hint=f"It has {known}.")
    shared = [item for digest, item in mine.items() if digest in theirs]
    if not shared:
        raise _nothing_shared(list(mine.values()), list(theirs.values()))
    return shared


def _protocols(run: _Run) -> dict[str, Protocol]:
    scored = {entry.protocol_hash for entry in run.result.entries if entry.model.name == run.model}
    try:
        return {
            digest: Protocol.model_validate(fields)
            for digest, fields in run.result.protocols.items()
            if digest in scored
        }
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(f"run {run.path}: protocol: {where}: {error.errors()[0]['msg']}.") from error


def _nothing_shared(mine: list[Protocol], theirs: list[Protocol]) -> UserError:
    same_name = [(a, b) for a in mine for b in theirs if a.id == b.id]
    if not same_name:
        names = [", ".join(item.id for item in part) for part in (mine, theirs)]
        return UserError(f"the runs share no protocol: {names[0]} and {names[1]}.",
                         hint="Score both with `macebench eval --protocol` and the same id.")  # fmt: skip
    a, b = same_name[0]
    lines = "\n  ".join(a.differences(b))
    return UserError(
        f"the runs were scored under different forms of {a.id} ({a.hash} and {b.hash}):\n  {lines}",
        hint="Score both with the same reference, pose back end and version: `macebench eval`.",
    )


def _compare(one: _Run, two: _Run, protocol: Protocol, settings: _Settings, progress: Progress) -> ProtocolComparison:
    digest = protocol.hash
    _check_references(one, two, digest)
    mine, theirs = one.rows(digest, "generated"), two.rows(digest, "generated")
    pairs = pair_rows(mine, theirs)
    reference = one.reference(digest)
    metrics, unknown = _metrics(one, two, protocol)
    own = {score.name: score.value for score in reference_scores(reference, protocol, metrics)}
    weights = {column.weight for metric in metrics for column in metric.columns}
    tests: list[Contrast] = []
    for done, metric in enumerate(metrics):
        if metric.feature is None:
            scores = [column for column in metric.columns if column.name not in weights]
            found = [_mean_test(metric, column, pairs, settings) for column in scores]
        else:
            found = _set_tests(metric, pairs, reference, protocol, settings)
        tests += [_judged(test, own.get(test.name, math.nan)) for test in found]
        progress(protocol.id, done + 1, len(metrics))
    tests += [_unknown(score) for score in unknown]
    adjusted = statistics.holm([math.nan if test.p_value is None else test.p_value for test in tests])
    tests = [test.model_copy(update={"p_holm": number(p)}) for test, p in zip(tests, adjusted, strict=True)]
    return ProtocolComparison(
        protocol=protocol.id, protocol_hash=digest, n_pairs=len(pairs.first), unpaired=pairs.unpaired,
        n_shared_music=_shared_music(mine, theirs), tests=tests,
    )  # fmt: skip


def _metrics(one: _Run, two: _Run, protocol: Protocol) -> tuple[list[Metric], list[ScoreRecord]]:
    """The metrics whose columns both rows have, and scores of both that no registered metric reports."""
    mine, theirs = (
        {score.name: score for entry in run.result.entries for score in entry.scores
         if entry.model.name == run.model and entry.protocol_hash == protocol.hash}
        for run in (one, two)
    )  # fmt: skip
    both = mine.keys() & theirs.keys()
    recorded = [name for name in one.result.metric_versions if not name.startswith(FEATURE_PREFIX)]
    metrics, lost = metrics_of(protocol, sorted(both), recorded)
    used = [metric for metric in metrics if any(column.name in both for column in metric.columns)]
    return used, [mine[name] for name in lost]


def _unknown(score: ScoreRecord) -> Contrast:
    """A score whose metric is not registered here: it is shown, not tested."""
    return Contrast(
        name=score.name, metric="", kind="mean", unit=score.unit, better=score.better, n=0, n_clusters=0,
        reason=UNKNOWN_METRIC,
    )  # fmt: skip


def _check_references(one: _Run, two: _Run, digest: str) -> None:
    """Refuse two runs whose reference rows are not the same."""
    if one.path.resolve() == two.path.resolve():
        return
    mine, theirs = one.rows(digest, "reference"), two.rows(digest, "reference")
    ids = [[row["clip_id"] for row in rows] for rows in (mine, theirs)]
    different = len(set(ids[0]) ^ set(ids[1])) if ids[0] != ids[1] else sum(map(_differ, mine, theirs))
    if different:
        changed = [
            f"{key} {one.result.environment.get(key)} and {two.result.environment.get(key)}"
            for key in sorted({*one.result.environment, *two.result.environment})
            if one.result.environment.get(key) != two.result.environment.get(key)
        ]
        raise UserError(
            f"the reference rows of the two runs differ in {different} clips, so their scores cannot be compared. "
            f"Environments: {'; '.join(changed) or 'the same'}.",
            hint="Score both again with one version of macebench: `macebench eval`.",
        )


def _differ(mine: Row, theirs: Row) -> bool:
    """Whether two reference rows hold different features or values."""
    for name in mine.keys() & theirs.keys():
        a, b = (vector_of(row, name) if name.startswith(FEATURE_PREFIX) else row[name] for row in (mine, theirs))
        if a is None or b is None or isinstance(a, str):
            if (a is None) != (b is None) or (name == "sha256" and a != b):
                return True
        elif np.shape(a) != np.shape(b) or not np.allclose(a, b, rtol=_AGREE, atol=1e-9, equal_nan=True):
            return True
    return False


def _shared_music(first: Sequence[Row], second: Sequence[Row]) -> int | None:
    """Sound files that clips of both sides have; None when one side knows none."""
    mine, theirs = ({str(row["music_sha256"]) for row in rows} - {""} for rows in (first, second))
    return len(mine & theirs) if mine and theirs else None


def _blank(metric: Metric, column: Column, usable: Usable) -> Contrast:
    return Contrast(
        name=column.name, metric=metric.name, kind="mean" if metric.feature is None else "set", unit=column.unit,
        better=column.better, n=usable.n, n_clusters=usable.n_clusters, unscored=usable.unscored,
    )  # fmt: skip


def _mean_test(metric: Metric, column: Column, pairs: Pairs, settings: _Settings) -> Contrast:
    usable = usable_pairs(pairs, column.name, column.weight)
    blank = _blank(metric, column, usable)
    if not usable.n:
        return blank.model_copy(update={"reason": TOO_FEW})
    first, second = _means(usable)
    known = {"first": first, "second": second, "difference": first - second}
    if usable.n_clusters < 2:
        return blank.model_copy(update={**known, "reason": TOO_FEW})
    interval, test, gaps, clusters = _tested(usable, settings)
    return blank.model_copy(update={
        **known,
        "low": number(interval.low), "high": number(interval.high),
        "null_low": test.null_low, "null_high": test.null_high,
        "effect": number(statistics.paired_effect_size(gaps, clusters=clusters)),
        "scale": number(interval.standard_error * math.sqrt(interval.n_clusters)),
        "p_value": test.p_value, "n_permutations": test.n_permutations,
        "detectable": number(statistics.minimum_detectable_difference(gaps, clusters=clusters)),
    })  # fmt: skip


def _means(usable: Usable) -> tuple[float, float]:
    """Means of both models, weighted as `macebench.aggregate` weights them."""
    if usable.weights is None:
        return math.fsum(usable.first) / usable.n, math.fsum(usable.second) / usable.n
    pairs = zip((usable.first, usable.second), usable.weights, strict=True)
    first, second = (math.fsum(weights * values) / math.fsum(weights) for values, weights in pairs)
    return first, second


def _tested(
    usable: Usable, settings: _Settings
) -> tuple[statistics.Interval, statistics.SignFlipResult, FloatArray, statistics.Clusters]:
    """Interval and test of a difference of means, and the differences whose spread is its, with their clusters.

    Without weights these are the differences of the clips; with weights there is one a cluster.
    """
    count, seed, level = settings.n_permutations, settings.seed, settings.level
    if usable.weights is None:
        gaps, clusters = usable.first - usable.second, usable.clusters
        interval = statistics.bootstrap_mean(gaps, clusters=clusters, level=level, n_resamples=count, seed=seed)
        return (
            interval,
            statistics.sign_flip_test(gaps, clusters=clusters, n_permutations=count, seed=seed),
            gaps,
            clusters,
        )
    weighted = statistics.WeightedPairs(usable.first, usable.second, *usable.weights, usable.clusters)
    found = statistics.bootstrap_weighted_difference(weighted, level=level, n_resamples=count, seed=seed)
    return found, statistics.weighted_swap_test(weighted, n_permutations=count, seed=seed), weighted.by_cluster, None


def _set_tests(
    metric: Metric, pairs: Pairs, reference: pd.DataFrame, protocol: Protocol, settings: _Settings
) -> list[Contrast]:
    """One test for each column of a set metric that is a score."""
    key = f"{FEATURE_PREFIX}{metric.feature}"
    width = protocol.pixels.fvd_features if protocol.pixels is not None else None
    usable = usable_pairs(pairs, key, width=width)
    vectors = [vector_of(row, key) for row in cast("list[Row]", reference.to_dict("records"))]
    sound = [vector for vector in vectors if vector is not None and np.isfinite(vector).all()]
    known = [part for vector in sound for part in parts_of(vector, width)]
    columns = [column for column in metric.columns if not column.name.endswith(ERROR_SUFFIX)]
    blanks = [(_blank(metric, column, usable), column.name) for column in columns]
    if usable.n_clusters < 2 or len(known) < 2:
        reason = TOO_FEW if len(known) > 1 else "fewer than 2 reference clips with features"
        return [blank.model_copy(update={"reason": reason}) for blank, _ in blanks]
    others = FeatureSet(np.stack(known))
    return [_set_test(blank, usable, _statistic(metric, name, others, protocol), others, protocol, settings)
            for blank, name in blanks]  # fmt: skip


def _statistic(metric: Metric, column: str, reference: FeatureSet, protocol: Protocol) -> statistics.Statistic:
    def compute(features: FloatArray) -> float:
        return values_of(metric, metric.compute(FeatureSet(features), reference, protocol))[0][column]

    return compute


def _set_test(
    blank: Contrast,
    usable: Usable,
    statistic: statistics.Statistic,
    reference: FeatureSet,
    protocol: Protocol,
    settings: _Settings,
) -> Contrast:
    try:
        fast = _fast(statistic, usable, reference, protocol)
        costly = fast is None or isinstance(fast, statistics.InfinityStatistic)
        result = statistics.permutation_test(
            usable.first, usable.second, fast or statistic, clusters=usable.clusters, seed=settings.seed,
            n_permutations=min(settings.n_permutations, COSTLY_PERMUTATIONS) if costly else settings.n_permutations,
        )  # fmt: skip
    except Unscorable as unscorable:
        return blank.model_copy(update={"reason": unscorable.reason})
    except (ValueError, ArithmeticError) as error:
        return blank.model_copy(update={"reason": f"metric failed: {type(error).__name__}: {error}"})
    if not all(map(math.isfinite, (result.difference, result.null_deviation))):
        return blank.model_copy(update={"reason": "value is not finite"})
    scale = result.null_deviation * math.sqrt(result.n_clusters)
    same = 0.0 if result.difference == 0 else None
    return blank.model_copy(update={
        "first": result.first, "second": result.second, "difference": result.difference,
        "null_low": result.null_low, "null_high": result.null_high, "p_value": result.p_value,
        "effect": result.difference / scale if scale else same, "scale": scale,
        "n_permutations": result.n_permutations, "detectable": result.detectable,
    })  # fmt: skip


def _fast(
    statistic: statistics.Statistic, usable: Usable, reference: FeatureSet, protocol: Protocol
) -> statistics.Statistic | None:
    """The fast statistic that gives the metric's values on both sets and on their mixture, or None."""
    rules = protocol.normaliser
    if rules is None:
        return None
    options = {"normalise": rules.mode, "eps": rules.eps, "ddof": rules.ddof, "drop_below": rules.drop_below}
    fewest = min(usable.n, len(reference))
    makers: list[Callable[..., statistics.Statistic]] = [statistics.frechet_statistic]
    if rules.mode != "self":
        makers += [statistics.diversity_statistic]
        makers += [statistics.kernel_statistic] if fewest >= MIN_KERNEL else []
        makers += [statistics.infinity_statistic] if fewest >= MIN_INFINITY else []
    mixed = np.where(np.arange(usable.n)[:, None] % 2 == 0, usable.first, usable.second)
    samples = (usable.first, usable.second, mixed)
    expected = np.array([statistic(sample) for sample in samples])
    for make in makers:
        candidate = make(reference.values, **options)
        found = np.array([candidate(sample) for sample in samples])
        if np.allclose(found, expected, rtol=_SAME_STATISTIC, atol=0.0):
            return candidate
    return None


def _judged(test: Contrast, reference: float) -> Contrast:
    """The test with the reference's own value and the side that it favours."""
    if test.first is None or test.second is None or (EXTRAPOLATED in test.name and min(test.first, test.second) < 0):
        return test  # no distance is below 0: of such values none is better
    own = number(reference) if test.better == "reference" else None
    if test.better == "reference":
        gain = None if own is None else abs(test.second - own) - abs(test.first - own)
    else:
        gain = (test.first - test.second) * (1 if test.better == "higher" else -1)
    favours: Favours | None = None
    if gain is not None:
        favours = "first" if gain > 0 else "second" if gain < 0 else "neither"
    return test.model_copy(update={"reference": own, "favours": favours})
