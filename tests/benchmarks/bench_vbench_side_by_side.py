"""VBench's own package against ours: the same clip, filler weights and processor, in turns, dimension by dimension.

The interpreter that has vbench 0.1.5 is ``$VBENCH_PYTHON`` or ``--vbench-python`` (`macebench doctor` says how to make
one); without it the benchmark says so and ends. Weights are filler in the published files' formats, CLIP's in float16
as OpenAI's are. vbench takes DINO from torch.hub; here the hub folder holds a plain ViT-B/16 of the same operations.
The building of networks is not counted, decoding is. Each dimension runs in a process of its own for the time, and all
of them in one process for the memory.

    python tests/benchmarks/bench_vbench_side_by_side.py [--frames 81] [--size 512] [--rounds 1] [--threads 2]
        [--dimensions subject_consistency ...] [--keep DIR]

Goals: all six together at most 0.75 of vbench's time, at a third of its memory.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
FILLER = runpy.run_path(str(HERE.parent / "models" / "appearance" / "filler.py"))
SIDE = HERE / "vbench_side.py"
DIMENSIONS = (
    "temporal_flickering", "background_consistency", "subject_consistency", "imaging_quality", "motion_smoothness",
    "aesthetic_quality",
)  # fmt: skip
TIME_GOAL, MEMORY_GOAL = 0.75, 1 / 3
HUB = '''
"""DINO's ViT-B/16: the operations of the published network under its names of tensors."""
dependencies = ["torch"]
import math
from pathlib import Path
import torch
from torch import nn
class Attention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, 12, c // 12).permute(2, 0, 3, 1, 4)
        weights = ((q @ k.transpose(-2, -1)) * (c // 12) ** -0.5).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, c))
class Mlp(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)
    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))
class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim, eps=1e-6), Attention(dim)
        self.norm2, self.mlp = nn.LayerNorm(dim, eps=1e-6), Mlp(dim)
    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))
class Patches(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, 16, 16)
    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)
class Vit(nn.Module):
    def __init__(self, dim=768):
        super().__init__()
        self.patch_embed, self.blocks, self.norm = Patches(dim), nn.ModuleList(Block(dim) for _ in range(12)), nn.LayerNorm(dim, eps=1e-6)
        self.cls_token, self.pos_embed = nn.Parameter(torch.zeros(1, 1, dim)), nn.Parameter(torch.zeros(1, 197, dim))
    def positions(self, rows, columns):
        if (rows, columns) == (14, 14):
            return self.pos_embed
        table = self.pos_embed[:, 1:].reshape(1, 14, 14, -1).permute(0, 3, 1, 2)
        scale = ((rows + 0.1) / 14, (columns + 0.1) / 14)
        table = nn.functional.interpolate(table, scale_factor=scale, mode="bicubic").permute(0, 2, 3, 1).flatten(1, 2)
        return torch.cat([self.pos_embed[:, :1], table], dim=1)
    def forward(self, x):
        rows, columns = x.shape[-2] // 16, x.shape[-1] // 16
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), self.patch_embed(x)], dim=1) + self.positions(rows, columns)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]
def dino_vitb16(pretrained=True, **kwargs):
    model = Vit()
    path = Path(__file__).resolve().parent.parent / "dino_vitbase16_pretrain.pth"
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()
'''  # noqa: E501
TEXT = {
    "text_projection": (64, 512), "positional_embedding": (4, 64), "token_embedding.weight": (16, 64),
    "ln_final.weight": (64,), "ln_final.bias": (64,), "logit_scale": (),
    "transformer.resblocks.0.attn.in_proj_weight": (192, 64), "transformer.resblocks.0.attn.in_proj_bias": (192,),
    "transformer.resblocks.0.attn.out_proj.weight": (64, 64), "transformer.resblocks.0.attn.out_proj.bias": (64,),
    "transformer.resblocks.0.mlp.c_fc.weight": (256, 64), "transformer.resblocks.0.mlp.c_fc.bias": (256,),
    "transformer.resblocks.0.mlp.c_proj.weight": (64, 256), "transformer.resblocks.0.mlp.c_proj.bias": (64,),
    "transformer.resblocks.0.ln_1.weight": (64,), "transformer.resblocks.0.ln_1.bias": (64,),
    "transformer.resblocks.0.ln_2.weight": (64,), "transformer.resblocks.0.ln_2.bias": (64,),
}  # fmt: skip
"""CLIP's loader wants a text tower; vbench never runs it, so it is tiny."""


def write_weights(folder: Path) -> None:
    """Filler weights of every network, in vbench's cache folder; files that are there are kept."""
    from macebench.models.appearance import _amt_network

    def tensors(name: str, shapes: dict[str, Any]) -> dict[str, Any]:
        return FILLER["tensors"](name, shapes)

    def amt() -> dict[str, Any]:
        filled = tensors("amt_s", _amt_network.layout())
        return {key: value * np.float32(0.1) if key.endswith("2.weight") else value for key, value in filled.items()}

    def clip(name: str) -> dict[str, Any]:
        visual = FILLER["CLIP"][name]
        text = TEXT | {"text_projection": (64, visual["visual.proj"][1])}
        return {key: value.astype(np.float16) for key, value in tensors("clip", visual | text).items()}

    musiq = FILLER["musiq_shapes"]() | {"transformer_encoder.scaleembed_input.scale_emb": (3, 384)}
    save(folder / "pyiqa_model/musiq_spaq_ckpt-358bb6af.pth", lambda: tensors("musiq", musiq))
    save(folder / "dino_model/dino_vitbase16_pretrain.pth", lambda: tensors("dino", FILLER["dino_shapes"]()))
    save(folder / "clip_model/ViT-B-32.pt", lambda: clip("clip_b32"))
    save(folder / "clip_model/ViT-L-14.pt", lambda: clip("clip_l14"))
    save(folder / "amt_model/amt-s.pth", amt, under="state_dict")
    head = {"weight": (1, 768), "bias": (1,)}
    save(folder / "aesthetic_model/emb_reader/sa_0_4_vit_l_14_linear.pth", lambda: tensors("laion", head))
    hub = folder / "dino_model/facebookresearch_dino_main"
    hub.mkdir(parents=True, exist_ok=True)
    (hub / "hubconf.py").write_text(HUB)


def save(path: Path, make: Any, under: str = "") -> None:
    import torch

    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in make().items()}
    torch.save({under: state} if under else state, path)


def write_clip(path: Path, frames: int, size: int) -> None:
    """A clip in which everything moves, so that no frame equals another."""
    from macebench.media import write_video

    y, x = np.mgrid[:size, :size].astype(float)

    def picture(t: int) -> Any:
        waves = [128 + 90 * np.sin((x + 4 * t) / (17 + 6 * k)) * np.cos((y - 3 * t) / (23 + 4 * k)) for k in range(3)]
        return np.stack(waves, axis=-1).clip(0, 255).astype(np.uint8)

    write_video(path, (picture(t) for t in range(frames)), fps=16)


def run(python: str, side: str, weights: Path, video: Path, dimensions: list[str], threads: int) -> dict[str, Any]:
    """What one side says of one clip."""
    call = [python, str(SIDE), side, str(weights), str(video), *dimensions, "--threads", str(threads)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{side} {' '.join(dimensions)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def compare(options: argparse.Namespace, folder: Path) -> int:
    weights, video = folder / "weights", folder / f"clip_{options.frames}_{options.size}.mp4"
    write_weights(weights)
    write_clip(video, options.frames, options.size)
    sides = {"theirs": options.vbench_python, "ours": sys.executable}
    total = dict.fromkeys(sides, 0.0)
    for dimension in options.dimensions:
        times: dict[str, list[float]] = {side: [] for side in sides}
        values = {}
        for _ in range(options.rounds):
            for side, python in sides.items():
                found = run(python, side, weights, video, [dimension], options.threads)
                seconds, values[side] = found["dimensions"][dimension]
                times[side].append(seconds)
        medians = {side: statistics.median(taken) for side, taken in times.items()}
        total = {side: total[side] + medians[side] for side in sides}
        line(dimension, medians, f"values {values['theirs']:.7g} {values['ours']:.7g}")
    line("all", total, f"goal {TIME_GOAL}")
    peaks = {
        side: run(python, side, weights, video, options.dimensions, options.threads)["peak"] / 1e9
        for side, python in sides.items()
    }
    ratio = peaks["ours"] / peaks["theirs"]
    sys.stdout.write(
        f"peak memory of all in one process: vbench {peaks['theirs']:.2f} GB, ours {peaks['ours']:.2f} GB with the "
        f"decoder, ratio {ratio:.2f} (goal {MEMORY_GOAL:.2f})\n"
    )
    return int(total["ours"] > TIME_GOAL * total["theirs"] or ratio > MEMORY_GOAL)


def line(name: str, seconds: dict[str, float], more: str) -> None:
    sys.stdout.write(
        f"{name:24s} vbench {seconds['theirs']:8.2f} s   ours {seconds['ours']:8.2f} s   "
        f"ratio {seconds['ours'] / seconds['theirs']:.2f}   {more}\n"
    )
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vbench-python", default=os.environ.get("VBENCH_PYTHON", ""))
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="0: torch's choice")
    parser.add_argument("--dimensions", nargs="+", default=list(DIMENSIONS), choices=DIMENSIONS)
    parser.add_argument("--keep", type=Path, help="folder for weights and clip, kept for the next time")
    options = parser.parse_args()
    if not options.vbench_python or not Path(options.vbench_python).is_file():
        sys.stdout.write(
            "skipped: no interpreter with vbench; set VBENCH_PYTHON or --vbench-python (see `macebench doctor`)\n"
        )
        return 0
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        return compare(options, options.keep)
    with tempfile.TemporaryDirectory() as name:
        return compare(options, Path(name))


if __name__ == "__main__":
    sys.exit(main())
