"""Milliseconds a frame of the appearance networks against a plain frame-by-frame run, and what bounds them.

Ours runs through `Batches` as in an evaluation. Plain is what VBench does: one frame at a time, torch's own linear
layers; for CLIP and DINO the classes of transformers, for MUSIQ the same network with one frame and `F.linear`. Both
have the same weights and frames and take turns in one run; medians are compared. The peak is a large oneDNN matrix
product in float32, measured in the same run; the floating point operations are counted by torch.

    python tests/benchmarks/bench_appearance.py [--frames 8] [--size 512] [--rounds 3] [--networks musiq dino_b16]
"""

from __future__ import annotations

import argparse
import resource
import runpy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from macebench.models.appearance import _transformer
from macebench.models.appearance._common import Batches, run_frames
from macebench.models.appearance._tensorfile import TensorFile, read_tensors
from macebench.models.appearance.clip import TOWERS, Clip, clip_input, from_openai
from macebench.models.appearance.dino import Dino, dino_input
from macebench.models.appearance.musiq import Musiq

FILLER = runpy.run_path(str(Path(__file__).resolve().parents[1] / "models" / "appearance" / "filler.py"))
Run = Callable[[np.ndarray], np.ndarray]


def filled(name: str) -> TensorFile:
    """Filler weights, written and read as a file, as in an evaluation."""
    shapes = FILLER["CLIP"].get(name) or FILLER["dino_shapes" if name == "dino_b16" else "musiq_shapes"]()
    tensors = FILLER["tensors"](name.partition("_")[0], shapes)
    with tempfile.TemporaryDirectory(prefix="bench-appearance-") as folder:
        path = Path(folder) / f"{name}.pth"
        torch.save({key: torch.from_numpy(values) for key, values in tensors.items()}, path)
        return read_tensors(path)  # the mapping stays


def ours(name: str, file: TensorFile) -> Clip | Dino | Musiq:
    return Clip(TOWERS[name], file) if name in TOWERS else Dino(file) if name == "dino_b16" else Musiq(file)


def plain(name: str, file: TensorFile) -> Run:
    """One frame at a time."""
    if name == "musiq":
        network = ours(name, file)

        def one(frames: np.ndarray) -> np.ndarray:
            works, _transformer.onednn_works = _transformer.onednn_works, lambda: False  # type: ignore[assignment]
            try:
                return np.concatenate([run_frames(network, frame[None], "cpu") for frame in frames])
            finally:
                _transformer.onednn_works = works

        return one
    import transformers

    if name == "dino_b16":
        config = transformers.ViTConfig(layer_norm_eps=1e-6)
        model = transformers.ViTModel(config, add_pooling_layer=False).eval()  # speed only: its weights play no part
        take, prepare = lambda output: output.last_hidden_state[:, 0], dino_input
    else:
        t = TOWERS[name]
        config = transformers.CLIPVisionConfig(
            hidden_size=t.width, intermediate_size=4 * t.width, num_hidden_layers=t.layers,
            num_attention_heads=t.heads, patch_size=t.patch, projection_dim=t.outputs,
        )  # fmt: skip
        model = transformers.CLIPVisionModelWithProjection(config).eval()
        model.load_state_dict(from_openai(file.tensors))
        take, prepare = lambda output: output.image_embeds, clip_input

    def network(pictures: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(take(model(pixel_values=prepare(pictures))), dim=-1)

    return lambda frames: np.concatenate([run_frames(network, frame[None], "cpu") for frame in frames])


def peak_gflops(seconds: float = 1.0) -> float:
    """The best rate of a large float32 matrix product."""
    a, layer = torch.randn(2048, 4096), _transformer.Linear(torch.randn(4096, 4096), None)
    packed, best, end = _transformer.pack(layer.weight, torch.float32, 2048), 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        _transformer.linear(a, layer, packed=packed)
        best = max(best, 2 * 2048 * 4096 * 4096 / (time.perf_counter() - start) / 1e9)
    return best


def flops(network: Clip | Dino | Musiq, frame: np.ndarray) -> float:
    """Floating point operations of one frame."""
    works, _transformer.onednn_works = _transformer.onednn_works, lambda: False  # type: ignore[assignment]
    try:
        with FlopCounterMode(display=False) as counter:
            network(torch.from_numpy(frame[None]).permute(0, 3, 1, 2))
        return float(counter.get_total_flops())
    finally:
        _transformer.onednn_works = works


def bench(name: str, frames: np.ndarray, rounds: int, batch: int) -> None:
    file = filled(name)
    network = ours(name, file)

    def batched(frames: np.ndarray) -> np.ndarray:
        batches = Batches(lambda part: run_frames(network, part, "cpu"), batch)
        batches.add(frames)
        return batches.finish()

    naive, times = plain(name, file), {"ours": [], "plain": []}
    batched(frames[:2]), naive(frames[:1])
    for _ in range(rounds):
        for label, run in (("ours", batched), ("plain", naive)):
            start, cpu = time.perf_counter(), time.process_time()
            result = run(frames)
            times[label].append(
                ((time.perf_counter() - start) / len(frames), (time.process_time() - cpu) / len(frames))
            )
            if label == "ours":
                mine = result
    wall, cpu = (
        {label: statistics.median(row[index] for row in rows) for label, rows in times.items()} for index in (0, 1)
    )
    with torch.no_grad():
        count = flops(network, frames[0])
    rate, peak = count / wall["ours"] / 1e9, peak_gflops()
    away = np.abs(result - mine).max() if name != "dino_b16" else float("nan")
    sys.stdout.write(
        f"{name:9s} plain {wall['plain'] * 1e3:6.0f} ms  ours {wall['ours'] * 1e3:6.0f} ms a frame  "
        f"x{wall['plain'] / wall['ours']:.2f} (processor time x{cpu['plain'] / cpu['ours']:.2f})  "
        f"{count / 1e9:6.1f} GFLOP a frame, {rate:4.0f} of {peak:4.0f} GFLOP/s = {rate / peak:.0%}  away {away:.1e}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=0, help="0: torch's choice")
    parser.add_argument("--networks", nargs="+", default=["clip_b32", "musiq", "dino_b16", "clip_l14"])
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    frames = FILLER["noise"](1, options.frames, options.size, options.size, 3).astype(np.uint8)
    for name in options.networks:
        bench(name, frames, options.rounds, options.batch)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    sys.stdout.write(f"peak memory {memory:.2f} GiB (both sides together)\n")


if __name__ == "__main__":
    main()
