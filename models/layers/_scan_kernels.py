"""Fused selective scan and causal convolution on the CPU: numba kernels, float32, forward and backward.

A tile is one batch row and `BLOCK` channels. Inside a tile the state lies as (n, BLOCK), so that every inner loop
runs over channels: exponentials, softplus and SiLU become vector instructions, and no step needs a horizontal sum in
the forward pass. Time runs once through memory. The forward pass keeps the state at the start of every `CHUNK` frames
when a gradient is wanted; the backward pass recomputes the states of one chunk from there. Memory is linear in time:
n / CHUNK floats a channel and frame, and 2 n / BLOCK more during the backward pass.

Sums over channels (gradients of B and C) are stored a tile and added in tile order, so that no result depends on the
number of threads. No numba threading layer is used (see `_tiles`), which keeps calls from several threads and forked
workers safe.

Exponentials: 2^x by rounding to the nearest integer and a polynomial of degree six, relative error below 2e-7;
below 2^-126.5 the value is 0, above 2^127.5 infinite. NaN stays NaN.

Arrays named `_t` belong to one frame of one tile. Inner loops either run over all `BLOCK` lanes of local arrays or
copy a slice: numba tests indices with an offset for negative values, which would keep a loop from becoming vector code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from macebench.models.layers._tiles import FlatView as View
from macebench.models.layers._tiles import run_tiles

BLOCK = 64
CHUNK = 32
LOG2E = np.float32(1.4426950408889634)
LN2 = np.float32(0.6931471805599453)
_F0, _F1, _F2 = np.float32(0), np.float32(1), np.float32(2)
_LOW, _HIGH, _BIAS, _HALF_UP = np.float32(-127), np.float32(128), np.float32(127), np.float32(127.5)
# 2^f = 1 + f (c1 + f (c2 + ...)): Chebyshev fit of (2^f - 1) / f on [-0.501, 0.501], relative error of 2^f 8e-9
_C1, _C2, _C3 = np.float32(6.93147188e-01), np.float32(2.40226509e-01), np.float32(5.55035667e-02)
_C4, _C5, _C6 = np.float32(9.61805609e-03), np.float32(1.33910973e-03), np.float32(1.54616798e-04)
# log(1 + t) = 2 s (1 + s^2/3 + ...), s = t / (2 + t)
_L3, _L5, _L7, _L9 = np.float32(1 / 3), np.float32(1 / 5), np.float32(1 / 7), np.float32(1 / 9)
_L11, _L13 = np.float32(1 / 11), np.float32(1 / 13)

Array = np.ndarray
Views = tuple[View, View, View, View, View]
"""u, delta, B, C, z; any view stands in for an absent z."""
Weights = tuple[Array, Array, Array]
"""A log2(e) (n, d), D (d,), delta_bias (d,)."""
Options = tuple[bool, bool, bool]
"""z is given, softplus on delta, keep states for the gradient."""
Function = TypeVar("Function", bound=Callable[..., Any])


def _compiled(*more: str) -> Callable[[Function], Function]:
    """Numba with fused multiply-add, IEEE division, and NaN and infinity as they are; "reassoc" allows vector sums."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", *more}}

    def compiled(function: Function) -> Function:
        try:
            return cast("Function", njit(function, cache=True, **options))
        except RuntimeError:  # no folder for the cache can be written
            return cast("Function", njit(function, **options))

    return compiled


def _power_of_two_code(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
    from llvmlite import ir  # type: ignore[import-untyped]

    return builder.bitcast(builder.shl(args[0], ir.Constant(ir.IntType(32), 23)), ir.FloatType())


@intrinsic
def _power_of_two(_typingctx: Any, _exponent: Any) -> Any:
    """float32 with the given biased exponent and mantissa 0."""
    return types.float32(types.int32), _power_of_two_code


@_compiled()
def exp2(x: Any) -> Any:
    """2^x."""
    x = _LOW if x < _LOW else x
    x = _HIGH if x > _HIGH else x
    exponent = np.int32(x + _HALF_UP)
    f = x - (np.float32(exponent) - _BIAS)
    p = _F1 + f * (_C1 + f * (_C2 + f * (_C3 + f * (_C4 + f * (_C5 + f * _C6)))))
    return p * _power_of_two(exponent)  # type: ignore[call-arg]


@_compiled()
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return _F1 / (_F1 + exp2(-x * LOG2E))


@_compiled()
def softplus(x: Any) -> Any:
    """log(1 + exp(x)) without overflow."""
    t = exp2(-abs(x) * LOG2E)
    s = t / (_F2 + t)
    q = s * s
    series = _F1 + q * (_L3 + q * (_L5 + q * (_L7 + q * (_L9 + q * (_L11 + q * _L13)))))
    return (x if x > _F0 else _F0) + _F2 * s * series


@_compiled()
def _at(view: View, row: int, t: int, start: int, size: int) -> Array:
    """Part of one frame."""
    first = row * view[1] + t * view[2] + start
    return view[0][first : first + size]


@_compiled()
def _enter(
    u_t: Array, delta_t: Array, D_t: Array, bias_t: Array, plus: bool, dl_t: Array, du_t: Array, y: Array
) -> None:
    """Step sizes, step size times input, and skip connection of one frame."""
    for j in range(u_t.size):
        dl_t[j] = delta_t[j] + bias_t[j]
        du_t[j] = u_t[j]
        y[j] = D_t[j] * u_t[j]
    if plus:
        for j in range(BLOCK):
            dl_t[j] = softplus(dl_t[j])
    for j in range(BLOCK):
        du_t[j] *= dl_t[j]


@_compiled()
def _advance(b_t: Array, c_t: Array, a2: Array, dl_t: Array, du_t: Array, h: Array, y: Array) -> None:
    """One frame of the recurrence; y grows by C h."""
    for s in range(a2.shape[0]):
        bs, cs, a2_s, h_s = b_t[s], c_t[s], a2[s], h[s]
        for j in range(BLOCK):
            value = exp2(dl_t[j] * a2_s[j]) * h_s[j] + bs * du_t[j]
            h_s[j] = value
            y[j] += cs * value


@_compiled()
def _gate(z_t: Array, gate: Array, y: Array) -> None:
    """Multiply y by SiLU(z)."""
    for j in range(z_t.size):
        gate[j] = z_t[j]
    for j in range(BLOCK):
        y[j] *= gate[j] * sigmoid(gate[j])


@_compiled()
def _forward_tiles(
    first: int,
    last: int,
    blocks: int,
    views: Views,
    weights: Weights,
    options: Options,
    out: Array,
    states: Array,
    final: Array,
) -> None:
    u, delta, B, C, z = views
    A2, D, bias = weights
    has_z, plus, keep = options
    n, d = A2.shape
    h, a2 = np.empty((n, BLOCK), np.float32), np.zeros((n, BLOCK), np.float32)
    dl_t, du_t = np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.float32)
    y, gate = np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.float32)
    for tile in range(first, last):
        row, start = tile // blocks, (tile % blocks) * BLOCK
        w = min(BLOCK, d - start)
        D_t, bias_t = D[start : start + w], bias[start : start + w]
        h[:] = _F0
        a2[:, :w] = A2[:, start : start + w]
        for t in range(out.shape[1]):
            if keep and t % CHUNK == 0:
                states[row, t // CHUNK, :, start : start + w] = h[:, :w]
            _enter(_at(u, row, t, start, w), _at(delta, row, t, start, w), D_t, bias_t, plus, dl_t, du_t, y)
            _advance(_at(B, row, t, 0, n), _at(C, row, t, 0, n), a2, dl_t, du_t, h, y)
            if has_z:
                _gate(_at(z, row, t, start, w), gate, y)
            out_t = out[row, t, start : start + w]
            for j in range(w):
                out_t[j] = y[j]
        final[row, :, start : start + w] = h[:, :w]


@_compiled()
def _advance_kept(
    b_t: Array, c_t: Array, a2: Array, dl_t: Array, du_t: Array, h: Array, y: Array, decay_t: Array, before_t: Array
) -> None:
    """`_advance` that also keeps the decays and the states before the frame."""
    for s in range(a2.shape[0]):
        bs, cs, a2_s, h_s, decay_s, before_s = b_t[s], c_t[s], a2[s], h[s], decay_t[s], before_t[s]
        for j in range(BLOCK):
            a = exp2(dl_t[j] * a2_s[j])
            decay_s[j] = a
            before_s[j] = h_s[j]
            value = a * h_s[j] + bs * du_t[j]
            h_s[j] = value
            y[j] += cs * value


@_compiled()
def _gate_back(z_t: Array, gate: Array, y: Array, gy_t: Array, gz_t: Array) -> None:
    """Gradient of z, and the gradient at the output turned into that before the gate."""
    for j in range(z_t.size):
        gate[j] = z_t[j]
    for j in range(BLOCK):
        part = sigmoid(gate[j])
        gz_t[j] = gy_t[j] * y[j] * part * (_F1 + gate[j] * (_F1 - part))
        gy_t[j] *= gate[j] * part


@_compiled("reassoc")
def _retreat(
    b_t: Array,
    c_t: Array,
    a2: Array,
    frame: tuple[Array, Array, Array, Array, Array],
    g: Array,
    ga: Array,
    sums: tuple[Array, Array],
    gB_t: Array,
    gC_t: Array,
) -> None:
    """One frame of the recurrence backwards.

    `frame` holds step sizes, step size times input, gradient of y, decays and states before the frame; `g` is the
    gradient of the state, `ga` that of A. `sums` becomes the sum of g B and of the gradient of the exponent times A.
    """
    dl_t, du_t, gy_t, decay_t, before_t = frame
    sum_b, sum_a = sums
    sum_b[:], sum_a[:] = _F0, _F0
    for s in range(a2.shape[0]):
        bs, cs, a2_s, decay_s, before_s = b_t[s], c_t[s], a2[s], decay_t[s], before_t[s]
        g_s, ga_s, to_b, to_c = g[s], ga[s], _F0, _F0
        for j in range(BLOCK):
            here = g_s[j] + gy_t[j] * cs
            kept = decay_s[j] * before_s[j]
            to_c += gy_t[j] * (kept + bs * du_t[j])
            to_b += here * du_t[j]
            sum_b[j] += here * bs
            flow = here * kept
            sum_a[j] += flow * a2_s[j]
            ga_s[j] += flow * dl_t[j]
            g_s[j] = here * decay_s[j]
        gB_t[s], gC_t[s] = to_b, to_c


@_compiled()
def _leave_back(
    u_t: Array,
    delta_t: Array,
    D_t: Array,
    bias_t: Array,
    plus: bool,
    frame: tuple[Array, Array, Array, Array, Array],
    sums: tuple[Array, Array],
    local: tuple[Array, Array, Array, Array],
    gu_t: Array,
    gdelta_t: Array,
) -> None:
    """Gradients of u and delta of one frame; those of D and delta_bias grow."""
    dl_t, _, gy_t, _, _ = frame
    sum_b, sum_a = sums
    value, slope, gd, gb = local
    for j in range(u_t.size):
        value[j] = u_t[j]
        slope[j] = delta_t[j] + bias_t[j]
    for j in range(BLOCK):
        slope[j] = (sigmoid(slope[j]) if plus else _F1) * (sum_b[j] * value[j] + sum_a[j] * LN2)
        gd[j] += gy_t[j] * value[j]
        gb[j] += slope[j]
    for j in range(u_t.size):
        gu_t[j] = gy_t[j] * D_t[j] + sum_b[j] * dl_t[j]
        gdelta_t[j] = slope[j]


@_compiled()
def _replay(
    place: tuple[int, int, int],
    chunk: tuple[int, int],
    views: Views,
    weights: tuple[Array, Array, Array],
    options: Options,
    g_out: View,
    h: Array,
    frames: tuple[Array, Array, Array, Array, Array],
    gz: Array,
    local: tuple[Array, Array],
) -> None:
    """Forward through one chunk of one tile from its first state h; fills `frames` and the gradient of z."""
    row, start, w = place
    u, delta, B, C, z = views
    a2, D_t, bias_t = weights
    dl, du, gy, decay, before = frames
    y, gate = local
    n = a2.shape[0]
    for t in range(chunk[0], chunk[1]):
        k = t - chunk[0]
        _enter(_at(u, row, t, start, w), _at(delta, row, t, start, w), D_t, bias_t, options[1], dl[k], du[k], y)
        _advance_kept(_at(B, row, t, 0, n), _at(C, row, t, 0, n), a2, dl[k], du[k], h, y, decay[k], before[k])
        g_t, gy_t = _at(g_out, row, t, start, w), gy[k]
        for j in range(w):
            gy_t[j] = g_t[j]
        if options[0]:
            _gate_back(_at(z, row, t, start, w), gate, y, gy_t, gz[k])


@_compiled()
def _backward_tiles(
    first: int,
    last: int,
    blocks: int,
    views: Views,
    weights: Weights,
    options: Options,
    states: Array,
    g_out: View,
    g_final: Array,
    grads: tuple[Array, ...],
) -> None:
    u, delta, B, C, _ = views
    A2, D, bias = weights
    gu, gdelta, gz_out, gB, gC, gA, gD, gbias = grads
    length = gu.shape[1]
    n, d = A2.shape
    wide, square = np.zeros((4, CHUNK, BLOCK), np.float32), np.zeros((4, n, BLOCK), np.float32)
    dl, du, gy, gz = wide[0], wide[1], wide[2], wide[3]
    a2, h, g, ga = square[0], square[1], square[2], square[3]
    decay, before = np.empty((CHUNK, n, BLOCK), np.float32), np.empty((CHUNK, n, BLOCK), np.float32)
    lanes = np.zeros((8, BLOCK), np.float32)
    sums, pair = (lanes[0], lanes[1]), (lanes[2], lanes[3])
    local = (lanes[4], lanes[5], lanes[6], lanes[7])
    for tile in range(first, last):
        row, block = tile // blocks, tile % blocks
        start = block * BLOCK
        w = min(BLOCK, d - start)
        weights_t = (a2, D[start : start + w], bias[start : start + w])
        wide[:], square[:], lanes[:] = _F0, _F0, _F0
        a2[:, :w] = A2[:, start : start + w]
        g[:, :w] = g_final[row, :, start : start + w]
        for chunk in range((length - 1) // CHUNK, -1, -1):
            edges = (chunk * CHUNK, min(length, (chunk + 1) * CHUNK))
            h[:, :w] = states[row, chunk, :, start : start + w]
            _replay((row, start, w), edges, views, weights_t, options, g_out, h, (dl, du, gy, decay, before), gz, pair)
            for t in range(edges[1] - 1, edges[0] - 1, -1):
                k = t - edges[0]
                frame = (dl[k], du[k], gy[k], decay[k], before[k])
                b_t, c_t = _at(B, row, t, 0, n), _at(C, row, t, 0, n)
                _retreat(b_t, c_t, a2, frame, g, ga, sums, gB[row, block, t], gC[row, block, t])
                u_t, delta_t = _at(u, row, t, start, w), _at(delta, row, t, start, w)
                gu_t, gdelta_t = gu[row, t, start : start + w], gdelta[row, t, start : start + w]
                _leave_back(u_t, delta_t, weights_t[1], weights_t[2], options[1], frame, sums, local, gu_t, gdelta_t)
                if options[0]:
                    gz_out[row, t, start : start + w] = gz[k, :w]
        gA[row, :, start : start + w] = ga[:, :w]
        gD[row, start : start + w] = local[2][:w]
        gbias[row, start : start + w] = local[3][:w]


def forward(views: Views, weights: Weights, options: Options, out: Array, final: Array) -> Array:
    """Run the scan.

    Args:
        views: Inputs, see `Views`.
        weights: See `Weights`.
        options: See `Options`.
        out: (b, l, d), written.
        final: (b, n, d), the last state, written.

    Returns:
        States at the start of each chunk, (b, chunks, n, d); no chunk when they are not kept.
    """
    batch, length, d = out.shape
    blocks = -(-d // BLOCK)
    states = np.empty((batch, -(-length // CHUNK) if options[2] else 0, weights[0].shape[0], d), np.float32)
    rest = (blocks, views, weights, options, out, states, final)
    run_tiles(lambda first, last: _forward_tiles(first, last, *rest), batch * blocks)
    return states


def backward(
    views: Views,
    weights: Weights,
    options: Options,
    states: Array,
    g_out: View,
    g_final: Array,
    length: int,
) -> tuple[Array, ...]:
    """Gradients of u, delta, z (b, l, d), B, C (b, l, n), A (n, d), D and delta_bias (d,).

    Arguments as in `forward`; `g_out` is the gradient of the output, `g_final` (b, n, d) that of the last state.
    """
    batch, _, n, d = states.shape
    blocks = -(-d // BLOCK)
    wide, part, narrow = (batch, length, d), (batch, blocks, length, n), (batch, d)
    gated = wide if options[0] else (0, 0, 0)
    grads = tuple(np.empty(s, np.float32) for s in (wide, wide, gated, part, part, (batch, n, d), narrow, narrow))
    rest = (blocks, views, weights, options, states, g_out, g_final, grads)
    run_tiles(lambda first, last: _backward_tiles(first, last, *rest), batch * blocks)
    gu, gdelta, gz, gB, gC, gA, gD, gbias = grads
    return gu, gdelta, gz, gB.sum(1), gC.sum(1), gA.sum(0), gD.sum(0), gbias.sum(0)


@_compiled()
def _filter(x: View, place: tuple[int, int, int], t: int, weight: Array, bias_t: Array, total: Array) -> None:
    """Convolution at one frame before SiLU."""
    row, start, w = place
    k = weight.shape[0]
    for j in range(w):
        total[j] = bias_t[j]
    for i in range(max(0, k - 1 - t), k):
        x_t, weight_i = _at(x, row, t - k + 1 + i, start, w), weight[i, start : start + w]
        for j in range(w):
            total[j] += weight_i[j] * x_t[j]


@_compiled()
def _convolve_tiles(first: int, last: int, blocks: int, x: View, weight: Array, bias: Array, out: Array) -> None:
    length, d = out.shape[1], out.shape[2]
    total = np.zeros(BLOCK, np.float32)
    for tile in range(first, last):
        row, start = tile // blocks, (tile % blocks) * BLOCK
        w = min(BLOCK, d - start)
        for t in range(length):
            _filter(x, (row, start, w), t, weight, bias[start : start + w], total)
            for j in range(BLOCK):
                total[j] *= sigmoid(total[j])
            out_t = out[row, t, start : start + w]
            for j in range(w):
                out_t[j] = total[j]


@_compiled()
def _convolve_back_tiles(
    first: int,
    last: int,
    blocks: int,
    x: View,
    weight: Array,
    bias: Array,
    g_out: View,
    grads: tuple[Array, Array, Array],
) -> None:
    gx, gw, gbias = grads
    length, d, k = gx.shape[1], gx.shape[2], weight.shape[0]
    total, g, to_bias = np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.float32)
    to_w = np.zeros((k, BLOCK), np.float32)
    for tile in range(first, last):
        row, start = tile // blocks, (tile % blocks) * BLOCK
        w = min(BLOCK, d - start)
        to_bias[:], to_w[:] = _F0, _F0
        gx[row, :, start : start + w] = _F0
        for t in range(length):
            _filter(x, (row, start, w), t, weight, bias[start : start + w], total)
            g_t = _at(g_out, row, t, start, w)
            for j in range(w):
                g[j] = g_t[j]
            for j in range(BLOCK):
                part = sigmoid(total[j])
                g[j] *= part * (_F1 + total[j] * (_F1 - part))
                to_bias[j] += g[j]
            for i in range(max(0, k - 1 - t), k):
                x_t, to_x = _at(x, row, t - k + 1 + i, start, w), gx[row, t - k + 1 + i, start : start + w]
                weight_i, to_w_i = weight[i, start : start + w], to_w[i]
                for j in range(w):
                    to_w_i[j] += g[j] * x_t[j]
                    to_x[j] += g[j] * weight_i[j]
        gw[row, :, start : start + w] = to_w[:, :w]
        gbias[row, start : start + w] = to_bias[:w]


def convolve(x: View, weight: Array, bias: Array, out: Array) -> None:
    """SiLU of a causal depthwise convolution: x as a view of (b, l, d), weight (k, d), bias (d,), out (b, l, d)."""
    blocks = -(-out.shape[2] // BLOCK)
    rest = (blocks, x, weight, bias, out)
    run_tiles(lambda first, last: _convolve_tiles(first, last, *rest), out.shape[0] * blocks)


def convolve_back(
    x: View, weight: Array, bias: Array, g_out: View, shape: tuple[int, ...]
) -> tuple[Array, Array, Array]:
    """Gradients of x (b, l, d), weight (k, d) and bias (d,), for `shape` = (b, l, d)."""
    batch, d = shape[0], shape[2]
    blocks = -(-d // BLOCK)
    gx, gw = np.empty(shape, np.float32), np.empty((batch, *weight.shape), np.float32)
    gbias = np.empty((batch, d), np.float32)
    rest = (blocks, x, weight, bias, g_out, (gx, gw, gbias))
    run_tiles(lambda first, last: _convolve_back_tiles(first, last, *rest), batch * blocks)
    return gx, gw.sum(0), gbias.sum(0)
