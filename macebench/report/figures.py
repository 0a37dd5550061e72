"""Strips of stick figures: a few poses of a 3-D motion as the dancer is seen from the front.

The view is orthographic and level, from the side to which the dancer's front points on average, so that the dancer's
left is on the right. All figures of a clip share one scale and the ground line; each one is centred on the root, so
travel does not show. Like a video, a motion is read again from its file, and only when the file still has the
hash that was scored.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from macebench.errors import MediaError
from macebench.motion import MOTION_SUFFIXES, read_motion
from macebench.report.markup import Html, el
from macebench.report.strips import picture_times, problem_of
from macebench.skeleton import SMPL_JOINTS, SMPL_PARENTS
from macebench.types import FloatArray, Motion

N_FIGURES = 8
_SHOWN_HEIGHT = 150
_MARGIN_M = 0.12
_LEAST_HALF_WIDTH_M = 0.45
_HEAD = SMPL_JOINTS.index("head")
_LEFT_HIP, _RIGHT_HIP = SMPL_JOINTS.index("lhip"), SMPL_JOINTS.index("rhip")


def is_motion(path: str) -> bool:
    """Whether a path is that of a motion file."""
    return Path(path).suffix.lower() in MOTION_SUFFIXES


def motion_strip(sha256: str, path: str, start_s: float, duration_s: float, run: Path) -> Html:
    """The strip of one clip, or a line that says why there is none.

    Args:
        sha256: Hash of the motion file that was scored.
        path: The file, relative to the folder `run`, or absolute.
        start_s: Start of the clip in the file, in seconds.
        duration_s: Length of the clip in seconds.
        run: Run folder.
    """
    problem = problem_of(run, path, sha256, "motion file")
    motion = None
    if not problem:
        try:
            motion = read_motion(Path(run) / path)
        except MediaError as error:
            problem = error.reason
    figures = _figures(motion, start_s, duration_s) if motion is not None else []
    if not figures:
        return el("p", f"No figures: {problem or 'no joint is known'}.", class_="muted small")
    return el("div", *figures, class_="strip")


def _figures(motion: Motion, start_s: float, duration_s: float) -> list[Html]:
    times = picture_times(duration_s, N_FIGURES)
    frames = np.clip([round((start_s + time_s) * motion.fps) for time_s in times], 0, len(motion) - 1)
    points = front_view(motion.joints[frames], motion.joints)
    if not np.isfinite(points).any():
        return []
    half = max(float(np.nanmax(np.abs(points[..., 0]))), _LEAST_HALF_WIDTH_M) + _MARGIN_M
    low, high = float(np.nanmin(points[..., 1])) - _MARGIN_M, float(np.nanmax(points[..., 1])) + _MARGIN_M
    box = _Box(half, low, high, float(np.nanmin(points[..., 1])))
    return [_figure(pose, time_s, box) for pose, time_s in zip(points, times, strict=True)]


def front_view(joints: FloatArray, whole: FloatArray) -> FloatArray:
    """(T, 24, 2) metres: across from the root (the dancer's left is positive on average) and height.

    Args:
        joints: (T, 24, 3) metres, y up.
        whole: (N, 24, 3) the motion from which the view is chosen.
    """
    across = _across(whole)
    offsets = joints[..., [0, 2]] - joints[:, :1, [0, 2]]
    return np.stack([offsets @ across, joints[..., 1]], axis=-1)


def _across(joints: FloatArray) -> FloatArray:
    """(2,) unit vector in x and z from the right hip to the left one, on average; of the first frame in a spin."""
    hips = joints[:, _LEFT_HIP][:, [0, 2]] - joints[:, _RIGHT_HIP][:, [0, 2]]
    hips = hips[np.isfinite(hips).all(axis=1)]
    for vector in (hips.mean(axis=0), hips[0]) if len(hips) else ():
        length = float(np.hypot(*vector))
        if length > 0.25 * float(np.hypot(*hips.T).mean()) > 0:
            return np.asarray(vector / length)
    return np.array([1.0, 0.0])


class _Box:
    """The part of the plane that a figure shows; SVG units are centimetres, y down."""

    def __init__(self, half: float, low: float, high: float, ground: float) -> None:
        self.width, self.height = math.ceil(200 * half), math.ceil(100 * (high - low))
        self._half, self._high, self.ground = half, high, self.y(ground, high)

    @staticmethod
    def y(height: float, high: float) -> float:
        return 100 * (high - height)

    def at(self, point: FloatArray) -> str:
        return f"{100 * (point[0] + self._half):.0f} {self.y(float(point[1]), self._high):.0f}"


def _figure(pose: FloatArray, time_s: float, box: _Box) -> Html:
    known = [bool(np.isfinite(point).all()) for point in pose]
    lines: dict[str, list[str]] = {"middle": [], "right": [], "left": []}
    for joint, parent in enumerate(SMPL_PARENTS):
        if parent >= 0 and known[joint] and known[parent]:
            lines[_side(joint)].append(f"M{box.at(pose[parent])}L{box.at(pose[joint])}")
    bones = [
        el("path", class_=f"bone {side}", d=Html("".join(parts)), stroke_width="3.4")
        for side, parts in lines.items()
        if parts
    ]
    parts: list[Html] = [el("rect", class_="blank", width=box.width, height=box.height)]
    parts.append(el("path", class_="ground", d=f"M0 {box.ground:.0f}H{box.width}"))
    if known[_HEAD]:
        x, y = box.at(pose[_HEAD]).split()
        parts.append(el("circle", class_="head", cx=x, cy=y, r="8"))
    shown = round(_SHOWN_HEIGHT * box.width / box.height)
    drawing = el(
        "svg", *parts, el("g", *bones, class_="pose"), viewBox=f"0 0 {box.width} {box.height}", width=shown,
        height=_SHOWN_HEIGHT, role="img", aria_label=f"Figure at {time_s:.2f} seconds",
    )  # fmt: skip
    return el("figure", drawing, el("figcaption", f"{time_s:.2f} s"))


def _side(joint: int) -> str:
    name = SMPL_JOINTS[joint]
    return "left" if name.startswith("l") else "right" if name.startswith("r") and name != "root" else "middle"
