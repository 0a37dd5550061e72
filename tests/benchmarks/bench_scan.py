"""The selective scan against mambapy and the reference loop, in turns in one run, and its cost over time.

Times are processor seconds, medians of interleaved rounds; ratios are of those. All sides must agree with the float64
reference loop, or the run fails. Nothing is asserted about seconds.
Usage: bench_scan.py [--frames T] [--inner D] [--state N] [--rounds R] [--threads K] [--long]
"""

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable

import torch
from mambapy.mamba import MambaBlock, MambaConfig
from torch.nn import functional

from macebench.models.layers.convolution import causal_convolution
from macebench.models.layers.scan import selective_scan

TOLERANCE = 1e-4
FLOPS_A_STATE = 13 + 6  # exponential; decay, flow and output
Inputs = dict[str, torch.Tensor]
Job = Callable[[], object]


def make_inputs(frames: int, inner: int, state: int, *, grad: bool = False) -> Inputs:
    """Inputs as a Mamba block has them: dense along channels."""
    g = torch.Generator().manual_seed(0)

    def draw(channels: int) -> torch.Tensor:
        return torch.randn(1, frames, channels, generator=g).transpose(1, 2)

    rates = -torch.arange(1, state + 1.0).repeat(inner, 1)
    x = {"u": draw(inner), "delta": draw(inner), "A": rates, "B": draw(state), "C": draw(state)}
    x |= {"D": torch.ones(inner), "z": draw(inner), "delta_bias": torch.randn(inner, generator=g) - 3}
    return {k: v.requires_grad_(grad) for k, v in x.items()}


def mambapy_scan(block: MambaBlock, x: Inputs) -> torch.Tensor:
    """The same function through mambapy's parallel scan."""
    u, delta, b, c, z = (x[k].transpose(1, 2) for k in ("u", "delta", "B", "C", "z"))
    y = block.selective_scan(u, functional.softplus(delta + x["delta_bias"]), x["A"], b, c, x["D"])
    return (y * functional.silu(z)).transpose(1, 2)


def medians(jobs: dict[str, Job], rounds: int) -> dict[str, float]:
    """Seconds of each job; the jobs take turns, and the first round does not count."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(rounds + 1):
        for name, job in jobs.items():
            start = time.process_time()
            job()
            if turn:
                times[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def report(line: str) -> None:
    """One line of the report."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def bench_forward(frames: int, inner: int, state: int, rounds: int) -> None:
    """Forward pass without gradients."""
    x = make_inputs(frames, inner, state)
    block = MambaBlock(MambaConfig(d_model=inner // 2, n_layers=1, d_state=state))
    jobs: dict[str, Job] = {
        "fused": lambda: selective_scan(**x, delta_softplus=True, backend="fused"),
        "torch": lambda: selective_scan(**x, delta_softplus=True, backend="torch"),
        "reference": lambda: selective_scan(**x, delta_softplus=True, backend="reference"),
        "mambapy": lambda: mambapy_scan(block, x),
    }
    with torch.no_grad():
        truth = selective_scan(**{k: v.double() for k, v in x.items()}, delta_softplus=True, backend="reference")
        for name, job in jobs.items():
            off = float((job() - truth).abs().max() / truth.abs().max())
            report(f"  {name:10s} largest error over largest value, float64 loop: {off:.1e}")
            if off > TOLERANCE:
                raise SystemExit(f"{name} is wrong by {off:.2e}")
        cost = medians(jobs, rounds)
    for name, seconds in cost.items():
        report(f"  {name:10s} {1e3 * seconds:8.1f} ms, {seconds / cost['fused']:6.1f} x fused")
    work, memory = frames * inner * state * FLOPS_A_STATE, 4 * 4 * frames * inner
    report(
        f"  fused: {work / cost['fused'] / 1e9:.0f} GFLOP/s, {memory / cost['fused'] / 1e9:.1f} GB/s of input and "
        f"output; {work / memory:.0f} FLOP a byte, so arithmetic bounds it where the machine has less a byte"
    )


def bench_backward(inner: int, state: int, rounds: int) -> None:
    """Forward and backward pass: cost a frame at three lengths, and against mambapy at the shortest."""

    def job(x: Inputs, block: MambaBlock | None) -> Job:
        def run() -> None:
            for v in x.values():
                v.grad = None
            out = selective_scan(**x, delta_softplus=True, backend="fused") if block is None else mambapy_scan(block, x)
            out.sum().backward()

        return run

    lengths = (512, 1024, 2048)
    block = MambaBlock(MambaConfig(d_model=inner // 2, n_layers=1, d_state=state))
    jobs = {str(n): job(make_inputs(n, inner, state, grad=True), None) for n in lengths}
    jobs["mambapy 512"] = job(make_inputs(512, inner, state, grad=True), block)
    cost = medians(jobs, rounds)
    for n in lengths:
        relative = cost[str(n)] / n / (cost["512"] / 512)
        report(f"  T = {n:5d} {1e3 * cost[str(n)]:8.1f} ms, cost a frame over that at T = 512: {relative:.2f}")
    report(f"  mambapy at T = 512: {cost['mambapy 512'] / cost['512']:.1f} x fused")


def bench_convolution(frames: int, inner: int, rounds: int) -> None:
    """Causal convolution and SiLU, forward and backward, on half of a wider tensor."""
    conv = torch.nn.Conv1d(inner, inner, 4, groups=inner, padding=3)
    wide = torch.randn(1, frames, 2 * inner, generator=torch.Generator().manual_seed(1)).requires_grad_()

    def plain(x: torch.Tensor) -> torch.Tensor:
        return functional.silu(conv(x.transpose(1, 2))[..., :frames]).transpose(1, 2)

    ways = {
        "fused": lambda x: causal_convolution(x, conv.weight, conv.bias, backend="fused"),
        "shifted": lambda x: causal_convolution(x, conv.weight, conv.bias, backend="torch"),
        "conv1d": plain,
    }
    jobs = {name: (lambda way=way: way(wide[..., :inner]).sum().backward()) for name, way in ways.items()}
    cost = medians(jobs, rounds)
    for name, seconds in cost.items():
        report(f"  {name:10s} {1e3 * seconds:8.1f} ms, {seconds / cost['fused']:6.1f} x fused")


def bench_long(inner: int, state: int) -> None:
    """Ten minutes at 30 fps in one pass without gradients."""
    x = make_inputs(18000, inner, state)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    with torch.no_grad():
        selective_scan(**x, delta_softplus=True, backend="fused")
    seconds, after = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    one = 18000 * inner * 4 / 2**20
    report(f"  {seconds:.2f} s, peak grew by {(after - before) / 1024:.0f} MiB; one (T, d) tensor has {one:.0f} MiB")


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1024)
    parser.add_argument("--inner", type=int, default=1024)
    parser.add_argument("--state", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--long", action="store_true", help="only ten minutes of frames, for the peak of memory")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.long:
        bench_long(options.inner, options.state)
        return
    report(f"forward, b 1, T {options.frames}, d_inner {options.inner}, n {options.state}, {options.threads} threads")
    bench_forward(options.frames, options.inner, options.state, options.rounds)
    report("forward and backward")
    bench_backward(options.inner, options.state, options.rounds)
    report("convolution, forward and backward")
    bench_convolution(options.frames, options.inner, options.rounds)


if __name__ == "__main__":
    main()
