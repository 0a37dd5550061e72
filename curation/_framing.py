"""Where the floor, the front and the camera of a dance are.

Motions from files are put on a stage: the floor is y = 0, the dance faces +z, its middle is over the origin. Nothing
of the dance changes but its place and its direction.

**Floor.** Published files disagree on what height 0 is: FineDance's and Lodge's root positions leave out a constant of
SMPL's (about 0.35 m), others stand on any level. The floor is measured: for each frame the lowest point of the body
that will be drawn, and of these heights the half-sample mode (`half_sample_mode`): a dancer touches the floor, be it
with feet, knees or hands, in most frames, and neither jumps nor frames that sink into the floor move a mode. Recordings
drift by some centimetres, so a take has a floor of its own where it is sure enough (`local_ground`); within a take
nothing is levelled.

**Front.** The way the dancer faces on average: the mean over frames of the horizontal direction at right angles to hips
and shoulders. Where a dancer faces everywhere (the mean is shorter than `MIN_FACING`), +z of the file is the front.

**Camera.** It stands still, on +z, as near as it can while the outermost points of the body (not the joints alone) keep
a margin to the picture's edge in every frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from macebench.render import Body, Camera
from macebench.render.camera import fit_points
from macebench.skeleton import forward_kinematics
from macebench.types import Array, FloatArray, Motion

MIN_FACING = 0.3
TOUCH_M = 0.03
DRIFT_M = 0.10
_HIPS, _SHOULDERS = (1, 2), (16, 17)
_FAN = np.radians(np.arange(-40.0, 41.0, 4.0))
_AIMS = 4
# outlines are measured at vertices of the coarse body, in steps of 4 degrees
_SLACK_M = 0.006


@dataclass(frozen=True)
class Ground:
    """The floor of a recording.

    Attributes:
        height_m: Height of the floor in the file's coordinates.
        touching: Share of the measured frames whose lowest point is within `TOUCH_M` of it.
        low_m: 5th percentile of the lowest points above the floor; negative: the body sinks in.
        high_m: 95th percentile: how high jumps take the lowest point.
    """

    height_m: float
    touching: float
    low_m: float
    high_m: float


@dataclass(frozen=True)
class Framing:
    """A camera and what it keeps in its picture.

    Attributes:
        camera: Where it stands.
        margin_px: Smallest distance of the body to the picture's edge over all frames, pixels.
        height_px: Median height of the body in the picture, pixels.
        reach_m: Largest horizontal distance from the origin of the body and of the floor in front of it, metres.
    """

    camera: Camera
    margin_px: float
    height_px: float
    reach_m: float


def lowest_points(motion: Motion, body: Body, step: int = 1) -> FloatArray:
    """(ceil(T / step),) height in metres of the body's lowest point, of every `step`-th frame.

    Raises:
        UserError: the motion has no rotations.
    """
    sampled = every(motion, step)
    coarse = body.outermost()
    return np.array([float(vertices[:, 1].min()) for vertices, _ in coarse.posed(sampled)])


def every(motion: Motion, step: int) -> Motion:
    """Every `step`-th frame of a motion."""
    rotations = None if motion.rotations is None else motion.rotations[::step]
    root = None if motion.root is None else motion.root[::step]
    return Motion(motion.fps / step, motion.joints[::step], rotations, root)


def half_sample_mode(values: FloatArray) -> float:
    """The mode of a continuous sample: the densest half, of that the densest half, and so on.

    Bickel and Fruehwirth, On a fast, robust estimator of the mode, Computational Statistics & Data Analysis 50, 2006.

    Raises:
        ValueError: the sample is empty.
    """
    if len(values) == 0:
        raise ValueError("no values")
    kept = np.sort(np.asarray(values, dtype=np.float64))
    while len(kept) > 3:
        half = (len(kept) + 1) // 2
        widths = kept[half - 1 :] - kept[: len(kept) - half + 1]
        start = int(widths.argmin())
        kept = kept[start : start + half]
    return float(np.median(kept))


def find_ground(lowest: FloatArray) -> Ground:
    """The floor under the lowest points (N,) of a body.

    The half-sample mode has the right peak but is noisy on it; the median of the points within `TOUCH_M` is the height.
    """
    rough = half_sample_mode(lowest)
    return ground_at(lowest, float(np.median(lowest[np.abs(lowest - rough) <= TOUCH_M])))


def ground_at(lowest: FloatArray, height: float) -> Ground:
    """A floor at a given height, under the lowest points (N,) of a body."""
    above = lowest - height
    low, high = np.percentile(above, [5.0, 95.0])
    return Ground(height, float((np.abs(above) <= TOUCH_M).mean()), float(low), float(high))


def local_ground(whole: Ground, lowest: FloatArray) -> Ground:
    """The floor under a take, or the recording's where the take's is unsure or far from it.

    Args:
        whole: The recording's floor.
        lowest: (N,) lowest points of the take.
    """
    own = find_ground(lowest)
    near = abs(own.height_m - whole.height_m) <= DRIFT_M and own.touching >= 0.5
    return own if near else ground_at(lowest, whole.height_m)


def facing(motion: Motion) -> tuple[float, float]:
    """(angle, length): the mean horizontal direction the dancer faces, radians from +z towards +x, length in [0, 1]."""
    joints = motion.joints
    (hip, other_hip), (shoulder, other_shoulder) = _HIPS, _SHOULDERS
    across = joints[:, hip] - joints[:, other_hip] + joints[:, shoulder] - joints[:, other_shoulder]
    # left of a dancer who faces +z is +x
    ahead = np.stack([-across[:, 2], across[:, 0]], axis=1)
    length = np.linalg.norm(ahead, axis=1, keepdims=True)
    x, z = (ahead / np.maximum(length, 1e-9)).mean(axis=0)
    return math.atan2(x, z), math.hypot(x, z)


def front(motion: Motion) -> float:
    """The angle of `facing`, 0 where the dancer faces everywhere."""
    angle, length = facing(motion)
    return angle if length >= MIN_FACING else 0.0


def staged(motion: Motion, ground_m: float, front_rad: float) -> Motion:
    """The motion with its floor at y = 0, its front towards +z and the middle of its path over the origin.

    Joints are those of the body that renderers draw: forward kinematics over `macebench.skeleton`'s bones.

    Raises:
        ValueError: the motion has no rotations.
    """
    if motion.rotations is None:
        raise ValueError("the motion has no rotations")
    turn = _about_y(-front_rad)
    root = motion.joints[:, 0] @ turn.T
    middle = 0.5 * (root.min(axis=0) + root.max(axis=0))
    root = root - [middle[0], ground_m, middle[2]]
    rotations = np.array(motion.rotations)
    rotations[:, 0] = _turned(turn, rotations[:, 0])
    return Motion(motion.fps, forward_kinematics(rotations, root), rotations, root)


def _about_y(angle: float) -> FloatArray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def _turned(turn: FloatArray, axis_angle: FloatArray) -> FloatArray:
    from macebench.motion.rotations import axis_angle_to_matrix, matrix_to_axis_angle

    return matrix_to_axis_angle(turn @ axis_angle_to_matrix(axis_angle))


def frame_dance(motion: Motion, body: Body, width: int, height: int, *, margin: float) -> Framing:
    """The nearest standing camera that keeps the body off the edge in every frame.

    Args:
        motion: On the stage (`staged`).
        body: Whom the renderer draws.
        width: Pixels.
        height: Pixels.
        margin: Distance to the edge as a share of the picture's width or height, in [0, 0.4].
    """
    outline = _outline(motion, body)
    cloud = outline.reshape(-1, 3)
    camera = _aimed(cloud, width, height, 1.0 - 2.0 * margin)
    pixels, _ = camera.project(outline, width, height)
    size = np.array([width, height], dtype=np.float64)
    margin_px = float(np.minimum(pixels, size - pixels).min())
    tall = pixels[..., 1].max(axis=1) - pixels[..., 1].min(axis=1)
    return Framing(camera, margin_px, float(np.median(tall)), _reach(camera, cloud, width, height))


def _aimed(cloud: FloatArray, width: int, height: int, fill: float) -> Camera:
    """The nearest camera whose picture has as much room on the left as on the right, and above as below."""
    camera = fit_points(cloud, width, height, radius_m=_SLACK_M, fill=fill)
    for _ in range(_AIMS):
        pixels, _ = camera.project(cloud, width, height)
        off = 0.5 * (pixels.min(axis=0) + pixels.max(axis=0)) - 0.5 * np.array([width, height])
        metre = camera.focal_px(height) / (camera.eye[2] - camera.target[2])
        aim = np.array(camera.target) + np.array([off[0] / metre, -off[1] / metre, 0.0])
        camera = fit_points(cloud, width, height, radius_m=_SLACK_M, fill=fill, aim=aim)
    return camera


def _reach(camera: Camera, cloud: FloatArray, width: int, height: int) -> float:
    """Distance from the origin up to which floor is seen in front of or below the body."""
    body = float(np.hypot(cloud[:, 0], cloud[:, 2]).max())
    corner = np.array([0.5 * width, -0.5 * height, -camera.focal_px(height)]) @ camera.axes
    if corner[1] >= -1e-6:
        return body
    place = np.array(camera.eye) - camera.eye[1] / corner[1] * corner
    return max(body, float(np.hypot(place[0], place[2])))


def _outline(motion: Motion, body: Body) -> FloatArray:
    """(T, D, 3) points of the body that can touch the edge of a picture taken from +z."""
    c, s, zero = np.cos(_FAN), np.sin(_FAN), np.zeros_like(_FAN)
    sides = [np.stack([sign * c, zero, s], axis=1) for sign in (-1.0, 1.0)]
    ends = [np.stack([zero, sign * c, s], axis=1) for sign in (-1.0, 1.0)]
    directions: Array = np.concatenate([*sides, *ends]).astype(np.float32)
    coarse = body.outermost()
    rows = [vertices[(vertices @ directions.T).argmax(axis=0)] for vertices, _ in coarse.posed(motion)]
    return np.asarray(rows, dtype=np.float64)
