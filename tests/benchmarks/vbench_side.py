"""One side of `bench_vbench_side_by_side.py`: runs in vbench's interpreter or in ours, and prints JSON.

    <python> vbench_side.py theirs|ours <folder of weights> <video.mp4> <dimension> ... [--threads N]

The line says, by dimension, seconds without the building of the network, and the value; and peak memory in bytes.
"""

import argparse
import importlib
import json
import os
import resource
import runpy
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORKER = HERE.parents[1] / "models" / "appearance" / "vbench_worker.py"
SCORERS = {
    "imaging_quality": "technical_quality", "aesthetic_quality": "laion_aesthetic",
    "subject_consistency": "subject_consistency", "background_consistency": "background_consistency",
    "motion_smoothness": "motion_smoothness", "temporal_flickering": "temporal_flickering",
}  # fmt: skip


def theirs(weights, video, dimensions):
    """VBench's own functions; the clock runs from a network that is ready to the result."""
    os.environ["VBENCH_CACHE_DIR"] = str(weights)
    worker = runpy.run_path(str(WORKER))
    import torch

    library = worker["declare_operators"](torch)
    worker["use_local_hub"](torch)
    torch.jit.load = no_archive
    found = {}
    for dimension in dimensions:
        module = importlib.import_module(f"vbench.{dimension}")
        scorer, taken = getattr(module, SCORERS[dimension]), []

        def timed(*args, scorer=scorer, taken=taken):
            start = time.perf_counter()
            result = scorer(*args)
            taken.append(time.perf_counter() - start)
            return result

        setattr(module, SCORERS[dimension], timed)
        with tempfile.TemporaryDirectory() as folder:
            rows = worker["compute"](Path(folder), dimension, [str(video)], "cpu")
        found[dimension] = (sum(taken), float(rows[str(video)]["video_results"]))
    del library
    return found


def no_archive(*args, **kwargs):
    """OpenAI's files are TorchScript archives; the filler ones are not, and CLIP then reads them as tensors."""
    raise RuntimeError("not an archive")


def ours(weights, video, dimensions):
    """The frame statistics of an evaluation; each dimension decodes the clip again, as VBench does."""
    from macebench.media import Decoder

    found = {}
    with Decoder() as decoder:
        decoder.start()
        for dimension in dimensions:
            statistic, score = made(weights, dimension)
            start = time.perf_counter()
            for batch in decoder.frames(video):
                statistic.update(batch.frames, batch.times_s)
            value = score(statistic.result())
            found[dimension] = (time.perf_counter() - start, value)
            del statistic
    return found


def made(weights, dimension):
    """The frame statistic of a dimension with its network ready, and the formula."""
    from macebench.metrics import _interpolation, appearance, flicker
    from macebench.metrics._laion import read_head

    if dimension == "temporal_flickering":
        return flicker.FrameDifference(), lambda values: (255.0 - float(values.mean())) / 255.0
    if dimension == "motion_smoothness":
        from macebench.models.appearance import amt
        from macebench.models.appearance._tensorfile import read_tensors

        network = amt.Interpolator(read_tensors(weights / "amt_model/amt-s.pth").tensors)
        return amt.AmtS(network), _interpolation.smoothness
    formulas = {
        "imaging_quality": ("musiq", appearance.imaging_quality),
        "subject_consistency": ("dino_b16", appearance.subject_consistency),
        "background_consistency": ("clip_b32", appearance.background_consistency),
        "aesthetic_quality": (
            "clip_l14",
            lambda rows: appearance.aesthetic_quality(
                rows, *read_head(weights / "aesthetic_model/emb_reader/sa_0_4_vit_l_14_linear.pth")
            ),
        ),
    }
    name, formula = formulas[dimension]
    return Frames(network_of(weights, name)), formula


def network_of(weights, name):
    from macebench.models.appearance._tensorfile import read_tensors

    if name == "musiq":
        from macebench.models.appearance.musiq import Musiq

        return Musiq(read_tensors(weights / "pyiqa_model/musiq_spaq_ckpt-358bb6af.pth"))
    if name == "dino_b16":
        from macebench.models.appearance.dino import Dino

        return Dino(read_tensors(weights / "dino_model/dino_vitbase16_pretrain.pth"))
    from macebench.models.appearance.clip import TOWERS, Clip

    file = {"clip_l14": "ViT-L-14.pt", "clip_b32": "ViT-B-32.pt"}[name]
    return Clip(TOWERS[name], read_tensors(weights / "clip_model" / file))


class Frames:
    """A network as a frame statistic."""

    def __init__(self, network):
        from macebench.models.appearance._common import Batches, run_frames
        from macebench.models.appearance._settings import settings

        self._batches = Batches(lambda frames: run_frames(network, frames, "cpu"), settings().batch)

    def update(self, frames, times_s):
        self._batches.add(frames)

    def result(self):
        return self._batches.finish()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=("theirs", "ours"))
    parser.add_argument("weights", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("dimensions", nargs="+")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    out, sys.stdout = sys.stdout, sys.stderr  # VBench prints; the result goes out alone
    sys.path[:] = [item for item in sys.path if Path(item or ".").resolve() != HERE]
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    found = (theirs if options.side == "theirs" else ours)(options.weights, options.video, options.dimensions)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    out.write(json.dumps({"dimensions": found, "peak": own + (child if options.side == "ours" else 0)}) + "\n")


if __name__ == "__main__":
    main()
