"""Makes small media files: with ffmpeg where it can, with PyAV where exact timestamps are needed."""

import subprocess
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest

from macebench.media import Decoder, Limits


class Maker:
    """Writes media files into one folder."""

    def __init__(self, folder):
        self.folder = folder

    def path(self, name):
        return self.folder / name

    def ffmpeg(self, *words):
        """Run ffmpeg with these words in the folder."""
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", "-nostdin", *words]
        subprocess.run(command, check=True, cwd=self.folder, timeout=120)

    def pattern(self, name, *words, size="64x48", seconds=1.0, fps=10):
        """A moving test picture; `words` are options of the output."""
        source = f"testsrc2=s={size}:d={seconds}:r={fps}"
        self.ffmpeg("-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p", "-threads", "1", *words, name)
        return self.path(name)

    def timed(self, name, ticks, *, size=(48, 64), base=Fraction(1, 1000), values=None):
        """A clip whose frame i is grey `values[i]` (default 10 + 8 i) at ``ticks[i] * base`` seconds."""
        path = self.path(name)
        with av.open(str(path), "w", options={"video_track_timescale": str(base.denominator)}) as container:
            stream = container.add_stream("libx264", rate=30)
            stream.height, stream.width = size
            stream.pix_fmt, stream.time_base = "yuv420p", base
            stream.codec_context.time_base = base
            stream.codec_context.thread_count = 1
            stream.options = {"bf": "0", "crf": "4"}
            for index, tick in enumerate(ticks):
                grey = (10 + 8 * index) % 250 if values is None else values[index]
                frame = av.VideoFrame.from_ndarray(np.full((*size, 3), grey, np.uint8), format="rgb24")
                frame.pts, frame.time_base = tick, base
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    def cut(self, path, name, keep):
        """The first `keep` of a file: a share below 1, or bytes."""
        data = Path(path).read_bytes()
        count = int(len(data) * keep) if keep < 1 else keep
        self.path(name).write_bytes(data[:count])
        return self.path(name)


@pytest.fixture
def make(tmp_path):
    return Maker(tmp_path)


@pytest.fixture(scope="module")
def decoder():
    with Decoder(Limits(wall_s=60.0)) as shared:
        yield shared
