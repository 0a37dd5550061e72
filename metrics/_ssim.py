"""Structural similarity of two pictures (Wang, Bovik, Sheikh and Simoncelli, 2004), in the variants in use.

For means m, variances v and the covariance c of two pictures x, y in a window::

    S = (2 mx my + C1) (2 c + C2) / ((mx^2 + my^2 + C1) (vx + vy + C2)),  C1 = (0.01 * 255)^2,  C2 = (0.03 * 255)^2

and SSIM is the mean of S over all windows and channels. One pair of pictures has four values in public code:

=================  ========  ==========================  ==========================  =============================
variant            picture   window                      variances divided by        windows
=================  ========  ==========================  ==========================  =============================
``grey-uniform7``  grey      7 x 7, equal weights        n - 1                       inside the picture
``rgb-uniform7``   RGB       7 x 7, equal weights        n - 1                       inside the picture
``gaussian``       RGB       11 x 11, deviation 1.5      n (weights sum to 1)        inside the picture
``torchmetrics``   RGB       11 x 11, deviation 1.5      n, variances at least 0     every pixel, picture mirrored
=================  ========  ==========================  ==========================  =============================

The first three are scikit-image's `structural_similarity` (default, with ``channel_axis``, and with
``gaussian_weights, use_sample_covariance=False``), the last one is torchmetrics' default; agreement within 1e-9.
Grey is OpenCV's: ``(9798 R + 19235 G + 3735 B + 2^14) >> 15``.

Sums over equal windows are exact integers: seven pixels are added in four steps (1, 2, 4, 7) along each axis.
Weighted sums are products of short slices of the picture with a band matrix, which the linear algebra library does
faster than a filter does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macebench.errors import Unscorable
from macebench.registry import unknown
from macebench.types import FloatArray

VARIANTS = ("grey-uniform7", "rgb-uniform7", "gaussian", "torchmetrics")
UNIFORM, GAUSSIAN = 7, 11
_RADIUS = GAUSSIAN // 2
_DEVIATION = 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_BLOCK = 8
_STRIP = 32
SMALLEST = {"grey-uniform7": UNIFORM, "rgb-uniform7": UNIFORM, "gaussian": GAUSSIAN, "torchmetrics": _RADIUS + 1}
"""Pixels of the shorter side at least, by variant."""


def ssim_pair(first: NDArray[np.uint8], second: NDArray[np.uint8], variant: str) -> float:
    """SSIM of two (H, W, 3) pictures, in [-1, 1].

    Raises:
        Unscorable: a side is shorter than the variant's window.
        UnknownNameError: no such variant.
    """
    if variant not in VARIANTS:
        raise unknown("SSIM variant", variant, VARIANTS, "macebench ls protocols")
    if min(first.shape[:2]) < SMALLEST[variant]:
        raise Unscorable(f"smaller than {SMALLEST[variant]} pixels")
    if variant == "grey-uniform7":
        return _in_strips(grey(first), grey(second), UNIFORM, _uniform)
    window, similarity = _WINDOWS[variant]
    planes: list[list[NDArray[np.uint8]]] = []
    for picture in (first, second):
        channels = [np.ascontiguousarray(picture[..., channel]) for channel in range(3)]
        mirrored = variant == "torchmetrics"
        planes.append([np.pad(plane, _RADIUS, mode="reflect") for plane in channels] if mirrored else channels)
    return float(np.mean([_in_strips(x, y, window, similarity) for x, y in zip(*planes, strict=True)]))


def _in_strips(
    first: NDArray[np.uint8], second: NDArray[np.uint8], window: int, similarity: Callable[..., FloatArray]
) -> float:
    """Mean of S over all windows of two (H, W) planes, in strips of rows that stay in the processor's cache."""
    count = first.shape[0] - window + 1
    sums = []
    for start in range(0, count, _STRIP):
        rows = slice(start, min(start + _STRIP, count) + window - 1)
        sums.append(float(similarity(first[rows], second[rows]).sum()))
    width: int = first.shape[1] - window + 1
    return float(math.fsum(sums) / (count * width))


def grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) luma of an (H, W, 3) RGB picture, rounded."""
    red, green, blue = (picture[..., channel].astype(np.uint32) for channel in range(3))
    return ((9798 * red + 19235 * green + 3735 * blue + (1 << 14)) >> 15).astype(np.uint8)


def _uniform(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> FloatArray:
    """(H - 6, W - 6) S with equal weights. Sums fit: 49 * 255 in 16 bits, 2 * 49 * 255^2 in 32."""
    x, y = first.astype(np.uint16), second.astype(np.uint16)
    sum_x, sum_y = (_window_sums(plane).astype(np.float64) for plane in (x, y))
    product = np.multiply(x, y, dtype=np.uint32)
    sum_xy = _window_sums(product).astype(np.float64)
    np.multiply(x, x, out=product, dtype=np.uint32)
    product += np.multiply(y, y, dtype=np.uint32)
    sum_squares = _window_sums(product).astype(np.float64)
    n = UNIFORM * UNIFORM
    # All terms times n^2: products of sums instead of products of means; variances have divisor n (n - 1).
    means = sum_x * sum_y
    sum_x *= sum_x
    sum_y *= sum_y
    sum_x += sum_y
    sum_xy *= n
    sum_squares *= n
    return _similarity(means, sum_x, sum_xy, sum_squares, n * n, n / (n - 1))


def _similarity(
    product: FloatArray, squares: FloatArray, mean_product: FloatArray, mean_squares: FloatArray, scale: float,
    unbias: float,
) -> FloatArray:  # fmt: skip
    """S from `scale` times mx my, mx^2 + my^2, E[xy] and E[x^2 + y^2]; overwrites its arguments."""
    mean_product -= product
    mean_product *= 2 * unbias
    mean_product += _C2 * scale
    mean_squares -= squares
    mean_squares *= unbias
    mean_squares += _C2 * scale
    product *= 2
    product += _C1 * scale
    squares += _C1 * scale
    product *= mean_product
    squares *= mean_squares
    product /= squares
    return product


def _window_sums(plane: NDArray[Any]) -> NDArray[Any]:
    """(H - 6, W - 6) sums over 7 x 7 pixels; the type must hold them."""
    return _sevens(_sevens(plane).T).T


def _sevens(plane: NDArray[Any]) -> NDArray[Any]:
    """(H - 6, W) sums of seven rows."""
    two = plane[:-1] + plane[1:]
    four = two[:-2] + two[2:]
    seven: NDArray[Any] = four[:-3] + two[4:-1]
    seven += plane[6:]
    return seven


def _gaussian(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> FloatArray:
    """(H - 10, W - 10) S with Gaussian weights."""
    x, y = first.astype(np.float64), second.astype(np.float64)
    mean_x, mean_y, mean_xy, mean_squares = _weighted(x), _weighted(y), _weighted(x * y), _weighted(x * x + y * y)
    return _similarity(mean_x * mean_y, mean_x**2 + mean_y**2, mean_xy, mean_squares, 1.0, 1.0)


def _clamped(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> FloatArray:
    """(H - 10, W - 10) S with Gaussian weights and both variances at least 0."""
    x, y = first.astype(np.float64), second.astype(np.float64)
    mean_x, mean_y = _weighted(x), _weighted(y)
    product, xx, yy = mean_x * mean_y, mean_x**2, mean_y**2
    variances = np.maximum(_weighted(x * x) - xx, 0.0) + np.maximum(_weighted(y * y) - yy, 0.0)
    numerator = (2 * product + _C1) * (2 * (_weighted(x * y) - product) + _C2)
    return np.asarray(numerator / ((xx + yy + _C1) * (variances + _C2)))


def _weighted(plane: FloatArray) -> FloatArray:
    """(H - 10, W - 10) Gaussian means over 11 x 11 pixels."""
    return _weigh_rows(_weigh_rows(plane).T).T


def _weigh_rows(plane: FloatArray) -> FloatArray:
    """(H - 10, W) Gaussian means of eleven rows, `_BLOCK` rows at a time."""
    plane = np.ascontiguousarray(plane)
    height, width = plane.shape
    count = height - GAUSSIAN + 1
    whole = count // _BLOCK
    result = np.empty((count, width))
    if whole:
        shape, strides = (whole, _BLOCK + GAUSSIAN - 1, width), (_BLOCK * plane.strides[0], *plane.strides)
        blocks = np.lib.stride_tricks.as_strided(plane, shape, strides, writeable=False)
        np.matmul(_band(_BLOCK), blocks, out=result[: whole * _BLOCK].reshape(whole, _BLOCK, width))
    rest = count - whole * _BLOCK
    if rest:
        np.matmul(_band(rest), plane[whole * _BLOCK :], out=result[whole * _BLOCK :])
    return result


@cache
def _band(rows: int) -> FloatArray:
    """(rows, rows + 10) matrix: row i holds the weights from column i on."""
    distance = np.arange(GAUSSIAN) - _RADIUS
    weights = np.exp(-0.5 * (distance / _DEVIATION) ** 2)
    band = np.zeros((rows, rows + GAUSSIAN - 1))
    for row in range(rows):
        band[row, row : row + GAUSSIAN] = weights / weights.sum()
    return band


_WINDOWS: dict[str, tuple[int, Callable[..., FloatArray]]] = {
    "rgb-uniform7": (UNIFORM, _uniform),
    "gaussian": (GAUSSIAN, _gaussian),
    "torchmetrics": (GAUSSIAN, _clamped),
}
