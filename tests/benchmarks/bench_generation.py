"""What sampling costs: GFT against CFG, frames a second and what bounds them, and ten minutes in one pass.

- Without options: the time of GFT over that of CFG at the same steps, in turns in one run (goal: at most 0.55).
- ``--fps``: the paper's FPS (generated frames a second of sampling) of the preset `released`, one song of 1,200 frames,
  and where the time goes: matrix products against the measured peak of this machine, scans, the rest. With
  ``--device cuda`` in bf16, compiled where mamba-ssm is there (the loop in plain torch cannot be); the goal on an H200
  is 7,700.
- ``--minutes 10``: one pass over procedural music of one tempo: time, peak of memory (goal: under 6 GB), and drift from
  the first minute to the last (goal: within 10 %), beside the drift of a procedural dance to the same beats.

Weights do not change the time, so the first two take random ones. Matrix products and attention are counted by
torch's FlopCounterMode; scans and the short convolution by formula, since they run in kernels that it does not see.

Usage: bench_generation.py [--fps | --minutes M] [--sizes small,released] [--frames T] [--steps N] [--rounds R]
[--batch B] [--device cpu|cuda] [--threads K] [--checkpoint FILE]. FPS at T = 1200 unless --frames says otherwise.
"""

import argparse
import contextlib
import importlib.util
import resource
import runpy
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from macebench.metrics.contact import foot_skating_ratio, ground_height
from macebench.models.diffusion.guidance import guided_denoiser
from macebench.models.diffusion.sampling import ddim, seeded_noise
from macebench.models.diffusion.schedule import Schedule
from macebench.models.layers.mamba import Mamba
from macebench.models.layers.scan import choose_backend, selective_scan
from macebench.models.motion_expert.config import PRESETS
from macebench.models.motion_expert.network import MotionExpertNetwork
from macebench.types import Motion

GOAL_RATIO, GOAL_FPS, GOAL_GB, GOAL_DRIFT = 0.55, 7700.0, 6.0, 0.10
FPS_FRAMES, RATIO_FRAMES = 1200, 300
FLOPS_A_STATE = 19  # as tests/benchmarks/bench_scan.py counts them: exponential 13; decay, flow and output 6
MINUTE = 1800
Job = Callable[[], object]


def report(line: str) -> None:
    """One line of the report."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@dataclass(frozen=True)
class Setup:
    """A network and the inputs of one batch of songs."""

    network: MotionExpertNetwork
    cond: torch.Tensor
    genre: torch.Tensor

    @property
    def device(self) -> torch.device:
        return self.cond.device

    @property
    def frames(self) -> int:
        """Frames of all songs."""
        return self.cond.shape[0] * self.cond.shape[1]

    @property
    def shape(self) -> tuple[int, int, int]:
        return (*self.cond.shape[:2], self.network.config.n_features)


def make(size: str, batch: int, frames: int, device: str) -> Setup:
    """A preset with random weights."""
    torch.manual_seed(0)
    network = MotionExpertNetwork(PRESETS[size]).eval().requires_grad_(False).to(device)
    cond = torch.randn(batch, frames, network.config.cond_dim, generator=torch.Generator().manual_seed(1)).to(device)
    return Setup(network, cond, torch.full((batch,), -1, dtype=torch.int64, device=device))


def precision(device: torch.device) -> contextlib.AbstractContextManager:
    """bf16 on a GPU, float32 elsewhere."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else contextlib.nullcontext()


def sample(setup: Setup, form: str, steps: int) -> torch.Tensor:
    """One pass of sampling, music included."""
    with torch.inference_mode(), precision(setup.device):
        denoiser = guided_denoiser(setup.network, setup.cond, setup.genre, form=form, beta=0.75, scale=2.0)
        noise = seeded_noise(range(len(setup.cond)), device=setup.device)
        return ddim(denoiser, setup.shape, Schedule.cosine(), noise, steps=steps)


def seconds_of(job: Job, device: torch.device) -> float:
    """Processor time on a CPU, so that neighbours count less; wall time on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        start = time.perf_counter()
        job()
        torch.cuda.synchronize()
        return time.perf_counter() - start
    start = time.process_time()
    job()
    return time.process_time() - start


def medians(jobs: Mapping[str, Job], rounds: int, device: torch.device) -> dict[str, float]:
    """Seconds of each job; the jobs take turns, and the first round does not count."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(rounds + 1):
        for name, job in jobs.items():
            found = seconds_of(job, device)
            if turn:
                times[name].append(found)
    return {name: statistics.median(values) for name, values in times.items()}


# ---- GFT and CFG ----------------------------------------------------------------------------------------------------


def bench_ratio(size: str, options: argparse.Namespace) -> None:
    """The time of one network pass a step over that of two."""
    setup = make(size, options.batch, options.frames or RATIO_FRAMES, options.device)
    jobs = {form: (lambda form=form: sample(setup, form, options.steps)) for form in ("gft", "cfg")}
    cost = medians(jobs, options.rounds, setup.device)
    ratio = cost["gft"] / cost["cfg"]
    report(
        f"{size}, {setup.shape[0]} x {setup.shape[1]} frames, {options.steps} steps: GFT {cost['gft']:.2f} s, "
        f"CFG {cost['cfg']:.2f} s, ratio {ratio:.3f} (goal: at most {GOAL_RATIO})"
    )


# ---- frames a second ------------------------------------------------------------------------------------------------


def mambas(network: torch.nn.Module) -> list[Mamba]:
    """All blocks of Mamba."""
    return [module for module in network.modules() if isinstance(module, Mamba)]


def attention_flops(query: tuple, key: tuple, value: tuple, *_: object, **__: object) -> int:
    """Of torch's fused attention on a CPU, which the counter does not know."""
    return sdpa_flop_count(query, key, value)


@dataclass(frozen=True)
class Work:
    """Floating-point operations of a part of the network: counted, and by formula."""

    matrices: int
    scans: int
    convolutions: int

    @property
    def total(self) -> int:
        return self.matrices + self.scans + self.convolutions


def work_of(job: Job, modules: torch.nn.Module, frames: int) -> Work:
    """Count a call of `job`, which runs `modules` once over `frames` frames."""
    counter = FlopCounterMode(
        display=False,
        custom_mapping={torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops},
    )
    with counter:
        job()
    scans = sum(block.A_log.numel() * frames * FLOPS_A_STATE for block in mambas(modules))
    convolutions = sum(2 * block.conv1d.weight.numel() * frames for block in mambas(modules))
    seen = any("convolution" in str(name) for name in counter.get_flop_counts().get("Global", {}))
    return Work(counter.get_total_flops(), scans, 0 if seen else convolutions)


def peak(device: torch.device) -> float:
    """FLOP a second of a large square matrix product: bf16 on a GPU, float32 on a CPU."""
    gpu = device.type == "cuda"
    size, dtype = (8192, torch.bfloat16) if gpu else (1536, torch.float32)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times = [seconds_of(lambda: a @ b, device) for _ in range(6)]
    threads = 1 if gpu else torch.get_num_threads()
    return 2 * size**3 / statistics.median(times[1:]) * threads


def scan_job(block: Mamba, setup: Setup) -> Job:
    """One scan with the shapes that the network has."""
    channels, states = block.A_log.shape
    batch, frames = setup.cond.shape[:2]
    dtype = torch.bfloat16 if setup.device.type == "cuda" else torch.float32

    def draw(width: int) -> torch.Tensor:
        return torch.randn(batch, frames, width, device=setup.device, dtype=dtype).transpose(1, 2)

    u, delta, gate, b, c = draw(channels), draw(channels), draw(channels), draw(states), draw(states)
    rates = -torch.exp(block.A_log)

    def run() -> None:
        with torch.inference_mode():
            selective_scan(u, delta, rates, b, c, block.D, gate, block.dt_proj.bias, delta_softplus=True)

    return run


def compiled(setup: Setup) -> str:
    """Compile the network where that helps; says what was done."""
    block = mambas(setup.network)[0]
    backend = choose_backend(torch.zeros(1, *block.A_log.shape, device=setup.device), block.A_log)
    if setup.device.type != "cuda":
        return f"scan backend {backend}, float32"
    if importlib.util.find_spec("mamba_ssm") is None:
        return f"scan backend {backend}, bf16, not compiled: mamba-ssm is not there, and a loop is not worth compiling"
    setup.network.denoise = torch.compile(setup.network.denoise)  # type: ignore[method-assign]
    return f"scan backend {backend}, bf16, compiled"


def bench_fps(size: str, options: argparse.Namespace) -> None:
    """The paper's FPS, and where the time goes."""
    setup = make(size, options.batch, options.frames or FPS_FRAMES, options.device)
    network, device = setup.network, setup.device
    x = torch.randn(setup.shape, device=device)
    times, beta = torch.full((len(x),), 500, device=device), torch.full((len(x),), 0.75, device=device)
    with torch.inference_mode(), precision(device):
        memory = network.encode_music(setup.cond, setup.genre)
        music = work_of(lambda: network.encode_music(setup.cond, setup.genre), network.musiclayerstack, setup.frames)
        step = work_of(lambda: network.denoise(x, memory, times, beta), network.dancelayerstack, setup.frames)
    how = compiled(setup)
    walls = []
    for turn in range(options.rounds + (device.type == "cuda")):
        start = time.perf_counter()
        sample(setup, "gft", options.steps)
        if device.type == "cuda":
            torch.cuda.synchronize()
        if turn or device.type != "cuda":  # the first pass on a GPU compiles
            walls.append(time.perf_counter() - start)
    wall = statistics.median(walls)
    work = Work(*(options.steps * getattr(step, part) + getattr(music, part)
                  for part in ("matrices", "scans", "convolutions")))  # fmt: skip
    report(
        f"{size}, {setup.shape[0]} x {setup.shape[1]} frames, {options.steps} steps, {device}, "
        f"{torch.get_num_threads()} threads, {how}: {wall:.2f} s, {setup.frames / wall:.0f} frames/s "
        f"(goal on an H200: {GOAL_FPS:.0f})"
    )
    bounds(setup, work, wall, options.steps)


def bounds(setup: Setup, work: Work, wall: float, steps: int) -> None:
    """Where the time of sampling goes."""
    ceiling = peak(setup.device)
    dance, music = mambas(setup.network.dancelayerstack), mambas(setup.network.musiclayerstack)
    job = scan_job(dance[0], setup)
    times = [seconds_of(job, setup.device) for _ in range(4)]
    threads = 1 if setup.device.type == "cuda" else torch.get_num_threads()
    scans = statistics.median(times[1:]) / threads * (steps * len(dance) + len(music))
    products = work.matrices / ceiling
    report(
        f"  {work.total / setup.frames / 1e9:.2f} GFLOP a frame of dance: matrix products {work.matrices / 1e9:.0f}, "
        f"scans {work.scans / 1e9:.0f}, convolutions {work.convolutions / 1e9:.0f} GFLOP in all"
    )
    report(
        f"  peak of matrix products {ceiling / 1e9:.0f} GFLOP/s, reached over all {work.total / wall / 1e9:.0f}; "
        f"at the peak alone: {setup.frames / (work.total / ceiling):.0f} frames/s; the goal of "
        f"{GOAL_FPS:.0f} takes {GOAL_FPS * work.total / setup.frames / 1e12:.1f} TFLOP/s"
    )
    report(
        f"  time: matrix products at their peak {products / wall:.0%}, scans {scans / wall:.0%} "
        f"({scans / (steps * len(dance) + len(music)) * 1e3:.2f} ms each), the rest (elementwise, memory, products "
        f"below the peak, calls) {1 - (products + scans) / wall:.0%}"
    )


# ---- ten minutes ----------------------------------------------------------------------------------------------------


def statistics_of(motion: Motion, frames: slice) -> dict[str, float]:
    """What must not drift, of a part of a dance."""
    joints = motion.joints[frames]
    speeds = np.linalg.norm(np.diff(joints, axis=0), axis=-1) * motion.fps
    feet = foot_skating_ratio(joints, fps=motion.fps)
    return {
        "foot contact, share": (feet.left_contacts + feet.right_contacts) / (2 * (len(joints) - 1)),
        "joint speed, mean, m/s": float(speeds.mean()),
        "joint speed, median, m/s": float(np.median(speeds)),
        "joint speed, 95 %, m/s": float(np.percentile(speeds, 95)),
        "foot skating ratio": float("nan") if feet.value is None else feet.value,
        "ground, m": ground_height(joints),
        "distance from the middle, m": float(np.linalg.norm(joints[:, 0, [0, 2]], axis=1).mean()),
    }


JUDGED = 4
"""The first so many of `statistics_of` are held against the goal."""


def drift(motion: Motion, name: str, part: int = MINUTE) -> None:
    """Compare the last minute of a dance with its first."""
    part = min(part, len(motion) // 2)
    first, last = statistics_of(motion, slice(0, part)), statistics_of(motion, slice(len(motion) - part, None))
    for number, (what, begin) in enumerate(first.items()):
        end = last[what]
        change = f"{end / begin - 1:+.1%}" if begin else "-"
        goal = f" (goal: within {GOAL_DRIFT:.0%})" if number < JUDGED and name == "model" else ""
        report(f"  {name}: {what}: first {begin:.4g}, last {end:.4g}, {change}{goal}")


def memory_gb() -> float:
    """Peak of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def bench_minutes(options: argparse.Namespace) -> None:
    """One pass over so many minutes of music."""
    from macebench.demo.choreography import choreograph
    from macebench.demo.music import compose
    from macebench.models.motion_expert.music import music_features

    helper = runpy.run_path(str(Path(__file__).with_name("bench_embedded.py")))
    expert = helper["open_expert"](options.checkpoint)
    seconds = 60.0 * options.minutes
    piece = compose("pop", seconds, 1)
    begun = time.perf_counter()
    features = music_features((piece.samples, piece.sample_rate))[: round(30 * seconds)]
    report(
        f"{len(features)} frames of music features in {time.perf_counter() - begun:.1f} s; peak {memory_gb():.2f} GB"
    )
    begun = time.perf_counter()
    (motion,) = expert.sample([features], seeds=[1], steps=options.steps)
    wall = time.perf_counter() - begun
    report(
        f"one pass of {len(motion)} frames, {options.steps} steps, {torch.get_num_threads()} threads: {wall:.1f} s, "
        f"{len(motion) / wall:.0f} frames/s; peak {memory_gb():.2f} GB (goal: under {GOAL_GB:g})"
    )
    drift(motion, "model")
    grid = piece.beats_s[0] + 60.0 / piece.tempo_bpm * np.arange(len(piece.beats_s) + 1)
    drift(choreograph(grid, seconds, 30.0, 1, "pop").motion, "procedural dance")


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fps", action="store_true")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--sizes")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoint", help="for --minutes; the package's own without it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.minutes:
        bench_minutes(options)
        return
    sizes = options.sizes or ("released" if options.fps else "small,released")
    for size in sizes.split(","):
        (bench_fps if options.fps else bench_ratio)(size, options)


if __name__ == "__main__":
    main()
