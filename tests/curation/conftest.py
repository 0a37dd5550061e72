"""Toy stages and small raw videos for the tests of the pipeline."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

TOYS = '''
"""Stages that are quick and easy to foresee."""

import dataclasses
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from macebench.curation.stage import Rejection, Timeline, Verdict
from macebench.registry import stage


@dataclass(frozen=True)
class LightConfig:
    """Least light.

    Attributes:
        min_light: Spans whose mean grey level is below are dropped.
        every: Looks at every so-manieth picture.
        patience: Sources whose first so many seconds are below `min_light` are ended.
    """

    min_light: float = 10.0
    every: int = 1
    patience: float = 0.0


class LightObserver:
    def __init__(self, every):
        self.every, self.seen, self.times, self.light = every, 0, [], []

    def update(self, frames, times_s):
        for frame, time_s in zip(frames, times_s):
            if self.seen % self.every == 0:
                self.times.append(time_s)
                self.light.append(frame.mean())
            self.seen += 1

    def finish(self):
        return Timeline(np.array(self.times), {"light": np.array(self.light)}, {"every": self.every})


@stage("light")
class Light:
    name = "light"
    limits = {"light": "min_light"}

    def __init__(self, config=None):
        self.config = config or LightConfig()

    def observer_settings(self):
        return {"version": 1, "every": self.config.every}

    def observe(self, info):
        return LightObserver(self.config.every)

    def hopeless(self, seen):
        first = seen.within(0.0, self.config.patience).values["light"]
        if not len(first) or first.mean() >= self.config.min_light:
            return None
        return Rejection("light", "dark so far", first.mean(), self.config.min_light)

    def process(self, task):
        light = float(task.observed["light"].within(task.start_s, task.end_s).values["light"].mean())
        limit = self.config.min_light
        return Verdict({"light": light}, Rejection("light", "too dark", light, limit) if light < limit else None)


@dataclass(frozen=True)
class PiecesConfig:
    """Pieces.

    Attributes:
        seconds: Length of a piece.
    """

    seconds: float = 1.0


@stage("pieces")
class Pieces:
    name = "pieces"

    def __init__(self, config=None):
        self.config = config or PiecesConfig()

    def process(self, task):
        length, count = self.config.seconds, int((task.end_s - task.start_s) // self.config.seconds)
        parts = tuple(
            dataclasses.replace(task, start_s=task.start_s + i * length, end_s=task.start_s + (i + 1) * length)
            for i in range(count)
        )
        rest = dataclasses.replace(task, start_s=task.start_s + count * length)
        short = Rejection("pieces", "rest", rest.end_s - rest.start_s, length)
        return Verdict({"count": count}, None, parts, ((rest, short),) if rest.end_s - rest.start_s > 0.05 else ())


@dataclass(frozen=True)
class TroubleConfig:
    """Trouble.

    Attributes:
        folder: Holds files named after what to do: hang, crash, crash-once, fail; the text is a file's name.
    """

    folder: str = dataclasses.field(default="", metadata={"scope": "run"})


@stage("trouble")
class Trouble:
    name = "trouble"

    def __init__(self, config=None):
        self.config = config or TroubleConfig()

    def _is(self, what, task):
        path = Path(self.config.folder, what)
        return path.is_file() and path.read_text() == task.source.name

    def process(self, task):
        if self._is("hang", task):
            time.sleep(600)
        if self._is("crash", task):
            os._exit(9)
        if self._is("crash-once", task):
            Path(self.config.folder, "crash-once").unlink()
            os._exit(9)
        if self._is("fail", task):
            raise ValueError("no luck")
        return Verdict()
'''
FPS = 10


@dataclass(frozen=True)
class Raw:
    """Raw videos and the plugin with the toy stages."""

    folder: Path
    plugin: Path
    names: tuple[str, ...]


def write_raw(path: Path, k: int, seconds: float = 3.3, level: int = 120) -> Path:
    """A video of moving stripes with a tone; `level` is its light, `k` its looks."""
    from macebench.media import write_video

    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:64, :96]
    frames = (
        np.repeat((level + 20 * np.sin((x + 3 * y * (k % 3) + 5 * t) / (4 + k)))[..., None], 3, axis=2)
        .clip(0, 255)
        .astype(np.uint8)
        for t in range(round(seconds * FPS))
    )
    tone = 0.3 * np.sin(2 * np.pi * (300 + 50 * k) * np.arange(round(seconds * 22050)) / 22050)
    return write_video(path, frames, fps=FPS, audio=(tone, 22050))


@pytest.fixture(scope="session")
def raw(tmp_path_factory):
    """Five sources: three good ones, a dark one, and one in a folder below; and the plugin."""
    root = tmp_path_factory.mktemp("raw")
    folder = root / "raw"
    for k, name in enumerate(("a.mp4", "b.mp4", "below/c.mp4")):
        write_raw(folder / name, k)
    write_raw(folder / "dark.mp4", 3, level=4)
    (folder / "broken.mp4").write_bytes(b"no video")
    plugin = root / "toys.py"
    plugin.write_text(TOYS)
    return Raw(folder, plugin, ("a.mp4", "b.mp4", "below/c.mp4", "broken.mp4", "dark.mp4"))


@pytest.fixture
def toys(raw):
    """Loads the toy stages into this process."""
    from macebench.registry import load_plugin

    load_plugin(raw.plugin)
    return raw.plugin


CHANGES = (
    "stages=[probe, light, pieces, trouble]", "probe.min_duration_s=1", "probe.min_side=32",
    "encode.short_side=48", "splits.test_share=0.4",
)  # fmt: skip


@pytest.fixture
def job(raw, toys, tmp_path):
    """Makes a `CurateJob` over the raw videos with the toy stages."""
    from macebench.curation.config import load_config
    from macebench.curation.pipeline import CurateJob

    def make(out="out", *changes, sources=None, store="store", **how):
        settings = load_config(None, (*CHANGES, *changes))
        named = tuple(map(str, sources or (raw.folder,)))
        return CurateJob(named, tmp_path / out, settings, store=tmp_path / store, plugins=(toys,), **how)

    return make


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a data set outside its working folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".work" not in path.relative_to(folder).parts
    }


@pytest.fixture
def files_of():
    """The function that reads a data set folder."""
    return contents


@pytest.fixture
def make_raw():
    """The function that writes one raw video."""
    return write_raw


@pytest.fixture
def changes():
    """The settings of `job`, as the command line takes them."""
    return CHANGES
