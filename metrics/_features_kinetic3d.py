"""Kinetic features of a dancer in space: six published variants, defects included, and one without them.

A feature vector holds for each joint ``[E_h, E_v, A]``: mean squared horizontal and vertical velocity and mean size of
the acceleration (fairmotion; Onuma, Faloutsos and Hodgins, "FMDistance", Eurographics 2008). Input is metres, y up, as
loaded; each variant does its own root handling, axis turn and joint cut. ``p_i`` is the position in frame i.

``aist`` (google/aistplusplus_api, `features/kinetic.py`), ``bailando`` (lisiyao21/Bailando), ``lodge``
(li-ronghui/LODGE) share one operator. For frames 1 to T - 1, velocity ``(p_i - p_(i-1)) / dt`` is averaged over the
terms that exist at most 2 frames away, and so is the acceleration. Defects:

- dt is 1/60 s whatever the true rate, and the window is frames.
- The acceleration is ``(v2 - v1) / dt`` with ``v2 = (p_(i+1) - p_i) / dt`` and ``v1 = p_i - p_(i-1) / dt``: a misplaced
  bracket, so a third of the features is 3,540 times the distance from the origin and little else.

They differ in what they take: ``aist`` 24 joints as given, so the origin of the room is in the features; ``bailando``
24 joints minus the root of frame 0; ``lodge`` 22 joints (66-d), minus the root of frame 0, and joints 1 to 21 also
minus the root of their own frame.

``megadance`` (XulongT/MEGADance) and ``mace3d`` (AMAP-ML/MACE-Dance): minus the root of frame 0, dt 1/30 s, the first
velocity copied to frame 0, a box of five frames padded with zeros (the ends shrink), a true acceleration. ``mace3d``
also turns the y-up body by +90 degrees about z, so sideways is read as up, and drops the hands (66-d).

``flowerdance`` (XulongT/FlowerDance): the same turn and cut, the root stays, dt 1/60 s. Windows hold the terms that
exist, and ``p_0 - p_(T-1)`` as one of them, because index -1 wraps; velocity and acceleration of frame 0 are 0.

``fixed`` (ours): 24 joints, 72-d. The means of ``aist`` with a true acceleration, the true frame time, and a window of
1/6 s (5 frames at 30 a second); where the window is not a whole odd number of frames, its two outermost terms count
in part. Translation and rotation about y change nothing.

Arithmetic is float64. The sources return float32, and so do the published variants, as float64 numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from macebench.types import FloatArray

FIXED_WINDOW_S = 1.0 / 6.0
_BODY = 22
_HALF = 2
_AIST_RATE, _MEGA_RATE = 60.0, 30.0

# Positions are (3, T, J) inside this module: components first, so that norms are sums of whole arrays.


def kinetic(joints: FloatArray, fps: float, variant: str) -> FloatArray:
    """(72,) or (66,) features of (T, 24, 3) metres, y up; T at least 3."""
    if variant == "fixed":
        return fixed(np.moveaxis(joints, -1, 0), fps)
    prepare, operator = PUBLISHED[variant]
    values = operator(np.moveaxis(prepare(joints), -1, 0))
    return values.astype(np.float32).astype(np.float64)


def fixed(points: FloatArray, fps: float) -> FloatArray:
    """The repaired features of (3, T, J) positions."""
    weights = window_weights(FIXED_WINDOW_S * fps)
    velocity = np.diff(points, axis=1) * fps
    steps = velocity.shape[1]
    acceleration = np.diff(velocity, axis=1) * fps
    return _summary(_window_mean(velocity, weights, steps), _window_mean(acceleration, weights, steps))


def window_weights(frames: float) -> FloatArray:
    """Weights of a centred window `frames` long: ones, and in part the two outermost; (1,) for 1 frame or less."""
    half = max(0, int(np.floor((frames - 1.0) / 2.0 + 1e-9)))
    rest = max(0.0, (frames - (2 * half + 1)) / 2.0)
    inner = np.ones(2 * half + 1)
    return inner if rest < 1e-9 else np.concatenate([[rest], inner, [rest]])


def _window_mean(values: FloatArray, weights: FloatArray, steps: int) -> FloatArray:
    """Weighted mean of the terms that exist around steps 0 to `steps` - 1 of (3, N, J)."""
    half, known = len(weights) // 2, values.shape[1]
    total = np.zeros((values.shape[0], steps, values.shape[2]))
    share = np.zeros(steps)
    for offset, weight in zip(range(-half, half + 1), weights, strict=True):
        first, last = max(0, -offset), min(steps, known - offset)
        if first < last:
            term = values[:, first + offset : last + offset]
            total[:, first:last] += term if weight == 1.0 else weight * term
            share[first:last] += weight
    total /= np.where(share > 0, share, 1.0)[:, None]
    return total


def _summary(velocity: FloatArray, acceleration: FloatArray) -> FloatArray:
    """(3 J,) ``[E_h, E_v, A]`` of each joint; y is up."""
    x, y, z = velocity**2
    effort = np.sqrt(np.sum(acceleration**2, axis=0))
    return np.stack([(x + z).mean(axis=0), y.mean(axis=0), effort.mean(axis=0)], axis=1).ravel()


def _aist(points: FloatArray) -> FloatArray:
    """The operator of google/aistplusplus_api with its bracket."""
    weights = np.ones(2 * _HALF + 1)
    velocity = np.diff(points, axis=1) * _AIST_RATE
    steps = velocity.shape[1]
    misplaced = points[:, 1:-1] - points[:, :-2] * _AIST_RATE
    acceleration = (velocity[:, 1:] - misplaced) * _AIST_RATE
    return _summary(_window_mean(velocity, weights, steps), _window_mean(acceleration, weights, steps))


def _padded(points: FloatArray) -> FloatArray:
    """The operator of MEGADance and MACE-Dance: edge copies, then boxes with zeros beyond the ends."""
    velocity = _zero_box(_edge_difference(points))
    return _summary(velocity, _zero_box(_edge_difference(velocity)))


def _edge_difference(values: FloatArray) -> FloatArray:
    """(3, T, J) backward difference; frame 0 repeats frame 1."""
    step = np.diff(values, axis=1) * _MEGA_RATE
    return np.concatenate([step[:, :1], step], axis=1)


def _zero_box(values: FloatArray) -> FloatArray:
    """Sum of the terms at most 2 frames away, divided by 5."""
    frames = values.shape[1]
    padded = np.pad(values, ((0, 0), (_HALF, _HALF), (0, 0)))
    width = 2 * _HALF + 1
    return np.asarray(sum(padded[:, k : k + frames] for k in range(width)) / width)


def _wrapped(points: FloatArray) -> FloatArray:
    """The operator of FlowerDance: velocity twice."""
    velocity = _wrapped_velocity(points)
    return _summary(velocity, _wrapped_velocity(velocity))


def _wrapped_velocity(values: FloatArray) -> FloatArray:
    """Windowed difference that reaches round to the last frame; 0 in frame 0."""
    step = (values - np.roll(values, 1, axis=1)) * _AIST_RATE
    mean = _window_mean(step, np.ones(2 * _HALF + 1), values.shape[1])
    mean[:, 0] = 0.0
    return mean


def as_given(joints: FloatArray) -> FloatArray:
    """Nothing is taken away."""
    return joints


def from_first_root(joints: FloatArray) -> FloatArray:
    """Minus the root of frame 0."""
    return joints - joints[:1, :1]


def from_each_root(joints: FloatArray) -> FloatArray:
    """22 joints minus the root of their own frame; the root itself minus that of frame 0."""
    body = joints[:, :_BODY] - joints[:, :1]
    body[:, 0] = joints[:, 0] - joints[0, 0]
    return body


def turned(joints: FloatArray) -> FloatArray:
    """+90 degrees about z, as MACE-Dance and FlowerDance turn joints that are y up already: x is read as up."""
    return np.stack([-joints[..., 1], joints[..., 0], joints[..., 2]], axis=-1)


def _turned_body(joints: FloatArray) -> FloatArray:
    return turned(joints)[:, :_BODY]


def _turned_body_from_first_root(joints: FloatArray) -> FloatArray:
    return turned(from_first_root(joints))[:, :_BODY]


PUBLISHED: dict[str, tuple[Callable[[FloatArray], FloatArray], Callable[[FloatArray], FloatArray]]] = {
    "aist": (as_given, _aist),
    "bailando": (from_first_root, _aist),
    "lodge": (from_each_root, _aist),
    "megadance": (from_first_root, _padded),
    "mace3d": (_turned_body_from_first_root, _padded),
    "flowerdance": (_turned_body, _wrapped),
}
