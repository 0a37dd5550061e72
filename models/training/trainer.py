"""Training of the Motion Expert, step by step, with exact resume.

A run is a folder: ``config.yaml``, ``checkpoints/`` (the last two), ``loss.csv`` (a row a step), ``validation.csv``,
and when it is finished ``model.safetensors`` (running mean of the weights), ``train.json`` and ``loss.png``.

The batch, the diffusion times, beta, the noise, the samples that lose their music and the dropout of step k depend on
(seed, k) alone. A run that was killed and started again therefore writes the same ``loss.csv``, bit for bit, on the
same machine with the same number of threads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import macebench
from macebench.errors import UserError
from macebench.models.diffusion.schedule import Schedule
from macebench.models.motion_expert import checkpoint
from macebench.models.motion_expert.network import MotionExpertNetwork
from macebench.models.training._base import began_with, data_of, network_of, normalizer_hash, notes_on, read_base
from macebench.models.training._board import Board
from macebench.models.training._curve import Curve
from macebench.models.training._datasets import (
    fingerprint,
    genre_numbers,
    joint_speed_p99,
    licences,
    notes_on_data,
    open_data,
    placeless,
)  # fmt: skip
from macebench.models.training._device import Place, find_place
from macebench.models.training._prefetch import Prefetch
from macebench.models.training._record import LAST_STEPS, last_losses, last_scores, placeless_config
from macebench.models.training._resume import (
    LOSS,
    MODEL,
    RECORD,
    VALIDATION,
    changes,
    check_base,
    check_identity,
    check_steps,
    clear,
    identity,
    make_folder,
    read_record,
)  # fmt: skip
from macebench.models.training._state import (
    State,
    checkpoints,
    load_state,
    new_state,
    read_checkpoint,
    save_checkpoint,
    write_atomically,
)  # fmt: skip
from macebench.models.training._step import COLUMNS, Tensors, is_finite, tensors, update
from macebench.models.training.config import TrainingConfig, config_text
from macebench.models.training.data import Batch, TrainingSet, Windows
from macebench.models.training.validation import VALIDATION_COLUMNS, validate
from macebench.protocol import load_protocol

CONFIG, DATA = "config.yaml", "data"
MAX_SKIPPED_IN_A_ROW = 50
Progress = Callable[[str, int, int], None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class TrainResult:
    """A finished training.

    Attributes:
        model: The weights file.
        steps: Steps that were made in all.
        seconds: Time of this call's steps.
        loss: Mean loss of the last steps, `LAST_STEPS` at most.
        loss_steps: Number of those steps.
        validation: The last validation's numbers.
        skipped: Steps that were left out because their gradient was no number.
        parameters: Parameters of the network.
        main: Whether this process is the one that writes.
    """

    model: Path
    steps: int
    seconds: float
    loss: float
    loss_steps: int
    validation: Mapping[str, float]
    skipped: int
    parameters: int
    main: bool = True


@dataclass(frozen=True)
class TrainPlan:
    """What a training will take.

    Attributes:
        seconds_per_step: Measured, without the first step.
        seconds: Of the steps that are left, without validation.
        steps_left: Steps that are left.
        parameters: Parameters of the network.
        sequences: Sequences of the training set.
        frames: Frames of the training set.
        device: Where it computes.
        notes: Lines for people on the data.
    """

    seconds_per_step: float
    seconds: float
    steps_left: int
    parameters: int
    sequences: int
    frames: int
    device: str
    notes: tuple[str, ...] = ()


def train(
    config: TrainingConfig,
    out: Path,
    *,
    resume: bool = True,
    limit: int | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    say: Say | None = None,
    data_folder: Path | None = None,
) -> TrainResult:
    """Train, or go on with a training.

    Args:
        config: The settings.
        out: The run folder.
        resume: Go on from the newest checkpoint; False starts anew and removes what is in the folder of this run,
            after settings and data were looked at.
        limit: Use the first so many sequences of each data set only.
        workers: Processes that build the training set.
        progress: Told the phase, what is done and the whole.
        say: Told lines for people.
        data_folder: Where a training set is built; None is ``data`` in the run folder.

    Raises:
        UserError: settings that do not fit the run or the machine; no data; a loss that is no number; a full disk.
        KeyboardInterrupt: after a checkpoint was written.
    """
    run = Run.open(
        config, out, resume=resume, limit=limit, workers=workers, progress=progress, say=say, data_folder=data_folder
    )
    started, first = time.monotonic(), run.state.step
    if first < config.steps or not (out / MODEL).is_file() or read_record(out).get("steps") != first:
        run.loop()
        run.finish(time.monotonic() - started, config.steps - first)
    run.place.wait()
    return dataclasses.replace(_result(out, time.monotonic() - started), main=run.place.main)


def plan(
    config: TrainingConfig,
    out: Path,
    *,
    limit: int | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    measured: int = 3,
) -> TrainPlan:
    """Measure a few steps and say what a training takes. Builds the training set; changes no weights on disk."""
    run = Run.open(config, out, resume=True, limit=limit, workers=workers, progress=progress, record=False)
    left = max(config.steps - run.state.step, 0)
    times = []
    for step in range(run.state.step, run.state.step + measured + 1):
        started = time.monotonic()
        run.update(run.batch(step))
        times.append(time.monotonic() - started)
    each = sum(times[1:]) / measured
    data = run.data
    return TrainPlan(
        each, each * left, left, run.parameters, len(data.sequences),
        sum(item.length for item in data.sequences), str(run.place.device), tuple(run.notes),
    )  # fmt: skip


class Run:
    """One training in progress: settings, data, state and folder."""

    def __init__(
        self,
        config: TrainingConfig,
        out: Path,
        data: TrainingSet,
        place: Place,
        progress: Progress | None,
        say: Say | None,
    ) -> None:
        base = read_base(config)
        own, data = data, data_of(data, base)
        self.config, self.out, self.data, self.place = config, out, data, place
        self.network_config = network_of(config, data, base)
        self.state: State = new_state(config, self.network_config, place.device, base)
        self.genres = genre_numbers(data, self.network_config)
        self.normalizer = data.normalizer
        self.schedule = Schedule.cosine()
        self.windows = Windows(data, config.window_frames(), config.batch, config.seed, "train")
        self.identity = {
            "config": identity(config), "network": self.network_config.model_dump(mode="json"),
            "data": fingerprint(data), "steps": config.steps, "processes": place.world,
            "normalizer": normalizer_hash(data.normalizer), "fitted": normalizer_hash(own.normalizer),
        }  # fmt: skip
        self.notes = [*notes_on_data(data, config.window_frames()), *notes_on(config, own, data, self.network_config)]
        self._progress: Progress = progress if progress is not None and place.main else _silent
        self._say: Say = say if say is not None and place.main else _silent
        self._in_a_row = 0
        self._board = Board(out, on=False)

    @classmethod
    def open(
        cls,
        config: TrainingConfig,
        out: Path,
        *,
        resume: bool,
        limit: int | None,
        workers: int,
        progress: Progress | None = None,
        say: Say | None = None,
        record: bool = True,
        data_folder: Path | None = None,
    ) -> Run:
        """A run that is ready for its next step; errors as in `train`. Without `record` the folder is only read."""
        place = find_place(config)
        load_protocol(config.validation.protocol)
        check_base(config, out)
        if place.main and record:
            make_folder(out)
        place.wait()
        folder = data_folder or out / DATA
        if place.main:
            open_data(config.data, folder, limit=limit, workers=workers, progress=progress)
        place.wait()
        data = open_data(config.data, folder, limit=limit)
        run = cls(config, out, data, place, progress, say)
        for line in [place.notice, *run.notes] if place.notice else run.notes:
            run._say(line)
        if place.main and record and not resume:
            clear(out)  # not before everything above went well
        place.wait()
        run._restore()
        if place.main and record:
            write_atomically(out / CONFIG, lambda path: path.write_text(config_text(config), "utf-8"))
        return run

    @property
    def parameters(self) -> int:
        """Parameters of the network."""
        return sum(parameter.numel() for parameter in self.state.network.parameters())

    def batch(self, step: int) -> Batch:
        """The batch of a step, for this process."""
        return self.windows.batch(step * self.place.world + self.place.rank)

    def update(self, batch: Batch) -> dict[str, float]:
        """Make the next step with a batch."""
        return update(self.state, self._tensors(batch), self.schedule, self.normalizer, self.config, self.place)

    def loop(self) -> None:
        """Make the steps that are left, with checkpoints and validations."""
        state, config = self.state, self.config
        steps = range(state.step, config.steps)
        scored = state.step + bool(steps)  # a run that only lacks its end is scored once more
        with (
            Prefetch(self.batch, steps) as batches,
            Curve(self._file(LOSS), COLUMNS, state.step) as curve,
            Curve(self._file(VALIDATION), VALIDATION_COLUMNS, scored) as scores,
            Board(self.out, config.tensorboard and self.place.main) as self._board,
            _stopping() as stop,
        ):
            for step in steps:
                self._step(batches.get(step), curve)
                if self.place.any(stop.is_set()):
                    self._save(curve)
                    self._say(f"stopped; the checkpoint of step {state.step} is written")
                    raise KeyboardInterrupt
                if config.validate_every and state.step % config.validate_every == 0 and state.step < config.steps:
                    self._validate(scores)
                if state.step % config.save_every == 0 and state.step < config.steps:
                    self._save(curve)
            self._validate(scores)
            self._save(curve)

    def finish(self, seconds: float, steps: int) -> None:
        """Write the weights, the record and the plot."""
        if not self.place.main:
            return
        from macebench.models.training.plots import plot_losses

        network = self.ema_network()
        card = self.card()
        write_atomically(
            self.out / MODEL,
            lambda path: checkpoint.save(path, network, network.config, self.normalizer, card, half=self.config.half),
        )
        record = {**card, **self._record(seconds, steps)}
        text = json.dumps(record, indent=2, sort_keys=True) + "\n"
        write_atomically(self.out / RECORD, lambda path: path.write_text(text, "utf-8"))
        plot_losses(self.out)

    def ema_network(self) -> MotionExpertNetwork:
        """A copy of the network with the running mean of the weights, for use; the random state stays as it is."""
        with torch.random.fork_rng(devices=[]):
            network = MotionExpertNetwork(self.network_config).to(self.place.device)
        self.state.ema.copy_to(network)
        return network.eval()

    def card(self) -> dict[str, Any]:
        """What the weights file says of itself."""
        config = self.config
        return {
            "name": "motion-expert", "preset": config.model, "steps": self.state.step, "seed": config.seed,
            "data": [placeless(name) for name in config.data], "data_sha256": self.identity["data"],
            "licences": licences(self.data), "sequences": len(self.data.sequences),
            "config": placeless_config(config), "config_hash": config.hash, "began_with": began_with(config),
            "guidance": config.guidance, "loss": config.loss, "ema_decay": config.ema_decay,
            "world": self.place.world, "macebench": macebench.__version__,
            "joint_speed_p99_m_s": joint_speed_p99(self.data),
        }  # fmt: skip

    def _record(self, seconds: float, steps: int) -> dict[str, Any]:
        last = last_losses(self.out)
        return {
            "finished": True, "parameters": self.parameters, "skipped": self.state.skipped,
            "history": self.state.history, "validation": last_scores(self.out),
            "loss_last": sum(last) / len(last) if last else None, "loss_last_steps": len(last),
            "seconds": round(seconds, 3), "steps_of_this_call": steps, "device": str(self.place.device),
            "threads": torch.get_num_threads(), "torch": torch.__version__, "python": platform.python_version(),
        }  # fmt: skip

    def _step(self, batch: Batch, curve: Curve) -> None:
        state, config = self.state, self.config
        row = self.update(batch)
        if not is_finite(row):
            self._bad(row)
        else:
            self._in_a_row = 0
        curve.add(state.step, row)
        state.step += 1
        self._progress("train", state.step, config.steps)
        if state.step % config.log_every == 0:
            self._board.add("train", state.step, row)
            self._say(f"step {state.step}  loss {row['loss']:.4f}  gradient {row['gradient']:.3f}  lr {row['lr']:.2e}")

    def _bad(self, row: Mapping[str, float]) -> None:
        """Count a step that was left out, or stop."""
        state = self.state
        self._in_a_row += 1
        kept = checkpoints(self.out)
        last = f"the checkpoint of step {kept[-1][0]} is kept" if kept else "no checkpoint was written yet"
        if self.config.bad_gradients == "stop" or self._in_a_row > MAX_SKIPPED_IN_A_ROW:
            raise UserError(
                f"step {state.step}: loss is {row['loss']}, norm of the gradient is {row['gradient']}; {last}.",
                hint="Lower lr or clip, or leave such steps out with `--set bad_gradients=skip`.",
            )
        state.skipped += 1

    def _validate(self, scores: Curve) -> None:
        if self.place.main:
            found = validate(self.ema_network(), self.data, self.config, self.place, self._progress)
            scores.add(self.state.step, found)
            self._board.add("validation", self.state.step, found)
            shown = "  ".join(f"{name} {value:.4g}" for name, value in found.items() if value == value)  # noqa: PLR0124
            if shown:
                self._say(f"step {self.state.step}  {shown}")
        self.place.wait()

    def _save(self, curve: Curve) -> None:
        if self.place.main:
            curve.sync()
            save_checkpoint(self.state, self.out, self.identity)
        self.place.wait()

    def _restore(self) -> None:
        """Go on from the newest checkpoint that can be read.

        Raises:
            UserError: it belongs to other settings or data, has more steps than are asked for, or none can be read.
        """
        found = checkpoints(self.out)
        for _, path in reversed(found):
            try:
                values = read_checkpoint(path, self.place.device)
            except UserError as error:
                self._say(error.message)
                continue
            theirs = json.loads(values["identity"])
            check_identity(theirs, self.identity, path)
            check_steps(int(values["step"]), self.config, self.out)
            load_state(self.state, values)
            changed = changes(theirs, self.identity, self.state.step)
            self.state.history += changed
            for line in [f"goes on from step {self.state.step}", *changed]:
                self._say(line)
            return
        if found:
            raise UserError(
                f"none of the checkpoints of {self.out} can be read.",
                hint="Start anew with --fresh, or in another --out.",
            )

    def _tensors(self, batch: Batch) -> Tensors:
        return tensors(batch, self.genres, self.place.device)

    def _file(self, name: str) -> Path | None:
        """Where this process writes `name`: the first one into the run folder, others nowhere."""
        return self.out / name if self.place.main else None


@contextlib.contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that Ctrl-C or a TERM signal sets; a second one ends the process at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    names = (signal.SIGINT, signal.SIGTERM)
    before = {name: signal.getsignal(name) for name in names}

    def stop(number: int, frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    for name in names:
        signal.signal(name, stop)
    try:
        yield event
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _result(out: Path, seconds: float) -> TrainResult:
    record = json.loads((out / RECORD).read_text("utf-8"))
    loss = float("nan") if record["loss_last"] is None else record["loss_last"]
    n = record.get("loss_last_steps", min(LAST_STEPS, record["steps"]))  # a record of an older version has none
    return TrainResult(
        out / MODEL, record["steps"], seconds, loss, n, record["validation"], record["skipped"], record["parameters"]
    )


def _silent(*_: object) -> None:
    return
