"""Runs a self-test: inputs, one job for each protocol and damage in worker processes, then the verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from macebench.baselines.degradations import DEGRADATIONS, Degradation
from macebench.engine import Crashed, Work, run_jobs
from macebench.errors import MacebenchError
from macebench.run import Progress, environment, silent
from macebench.selftest.inputs import Bench, SelftestConfig, load_inputs, prepared_folder
from macebench.selftest.judge import Answers, judged
from macebench.selftest.measure import Job, Outcome, half_splits, measure, metrics_of, setup_worker
from macebench.selftest.schema import Card, Cell, DamageRecord, ProtocolRecord, SelftestResult


@dataclass(frozen=True)
class SelftestPlan:
    """What a self-test would do.

    Attributes:
        source: What the clips are.
        n_clips: How many.
        n_to_extract: Clips that must be decoded first.
        protocols: Ids.
        n_columns: Columns over all protocols.
        n_scorings: Clips times damages times strengths over all protocols.
    """

    source: str
    n_clips: int
    n_to_extract: int
    protocols: tuple[str, ...]
    n_columns: int
    n_scorings: int


def plan_selftest(config: SelftestConfig) -> SelftestPlan:
    """What `run_selftest` would do; decodes nothing.

    Raises:
        UserError: as `run_selftest`.
    """
    from macebench.run import plan_run

    config.check()
    prepared = prepared_folder(config)
    if prepared is None:
        inputs = load_inputs(config, silent)
        benches, source, waiting = inputs.benches, inputs.source, 0
    else:
        names = {p.hash: tuple(metric.name for metric in prepared.metrics[p.hash]) for p in prepared.protocols}
        benches = tuple(Bench(protocol, names[protocol.hash], ()) for protocol in prepared.protocols)
        source, waiting = prepared.generated.name, plan_run(prepared).n_to_extract
    clips = config.n if prepared is None else len(prepared.generated.clips)
    levels = [
        sum(len(job.strengths) or 1 for job in _jobs(number, bench, config)) for number, bench in enumerate(benches)
    ]
    return SelftestPlan(
        source, clips, waiting, tuple(bench.protocol.id for bench in benches),
        sum(len(metric.columns) for bench in benches for metric in metrics_of(bench)), clips * sum(levels),
    )  # fmt: skip


def run_selftest(config: SelftestConfig, progress: Progress = silent) -> SelftestResult:
    """Damage the clips, ask every metric, and judge the answers.

    The result depends on the inputs, the seed and the software, not on the number of workers.

    Raises:
        UserError: a wrong value, an unknown name, a missing folder, or too few clips.
        MacebenchError: a worker process died.
    """
    inputs = load_inputs(config, progress)
    splits = half_splits(inputs.n_clips, config.repeats, config.seed)
    jobs = [job for number, bench in enumerate(inputs.benches) for job in _jobs(number, bench, config)]
    plugins = tuple(str(path) for path in config.plugins)
    outcomes: dict[int, Outcome] = {}
    work = Work(measure, setup_worker, (inputs.benches, splits, plugins))
    for index, result in run_jobs(work, jobs, workers=config.workers):
        if isinstance(result, Crashed):
            raise MacebenchError(f"the self-test of {_name(jobs[index], inputs.benches)} crashed its worker.")
        outcomes[index] = result
        progress("selftest", len(outcomes), len(jobs))
    cells: list[Cell] = []
    cards: list[Card] = []
    for number, bench in enumerate(inputs.benches):
        found, rated = judged(_answers(number, bench, jobs, outcomes))
        cells += found
        cards += rated
    pieces = {job.bench: outcomes[index].n_pieces for index, job in enumerate(jobs)}
    return SelftestResult(
        source=inputs.source, n_clips=inputs.n_clips, n_half=inputs.n_clips // 2, repeats=config.repeats,
        seed=config.seed, protocols=tuple(_protocol(b, pieces[i]) for i, b in enumerate(inputs.benches)),
        damages=tuple(_damage(DEGRADATIONS[name], config) for name in _used(jobs)),
        cells=tuple(cells), cards=tuple(cards), environment=environment(),
    )  # fmt: skip


def _jobs(number: int, bench: Bench, config: SelftestConfig) -> list[Job]:
    """The clean job of a bench, and one for each damage that touches its track."""
    damages = [item for item in DEGRADATIONS.values() if item.touches(bench.protocol.track)]
    return [Job(number, None), *(Job(number, item.name, chosen_strengths(item, config.strengths)) for item in damages)]


def chosen_strengths(damage: Degradation, count: int) -> tuple[float, ...]:
    """`count` of the five strengths, spread evenly; the strongest is always among them."""
    return tuple(damage.strengths[round(4 * (k + 1) / count) if count < 5 else k] for k in range(count))


def _answers(number: int, bench: Bench, jobs: Sequence[Job], outcomes: dict[int, Outcome]) -> Answers:
    own = [(job, outcomes[index]) for index, job in enumerate(jobs) if job.bench == number]
    clean = next(outcome for job, outcome in own if job.degradation is None)
    damages = {job.degradation: (job.strengths, outcome) for job, outcome in own if job.degradation is not None}
    return Answers(bench.protocol.id, bench.protocol.track, metrics_of(bench), clean, damages)


def _used(jobs: Sequence[Job]) -> list[str]:
    asked = {job.degradation for job in jobs}
    return [name for name in DEGRADATIONS if name in asked]


def _protocol(bench: Bench, n_pieces: int) -> ProtocolRecord:
    own = bench.protocol
    return ProtocolRecord(id=own.id, hash=own.hash, title=own.title, track=own.track, n_pieces=n_pieces)


def _damage(item: Degradation, config: SelftestConfig) -> DamageRecord:
    strengths = chosen_strengths(item, config.strengths)
    return DamageRecord(name=item.name, summary=item.summary, unit=item.unit, strengths=strengths)


def _name(job: Job, benches: Sequence[Bench]) -> str:
    return f"{benches[job.bench].protocol.id} under {job.degradation or 'no damage'}"
