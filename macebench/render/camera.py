"""Pinhole cameras, and the camera that has the whole dance in its picture.

World: metres, y up. Picture: pixels, x right and y down, the centre of the first pixel at (0.5, 0.5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from macebench.types import Array, FloatArray, Motion

_NEAR_M = 0.05
# radius of the ball around a joint that holds the flesh, the hair and the shoes, in metres
_FLESH_M = 0.14
_HEAD, _HEAD_TOP_M = 15, 0.05


@dataclass(frozen=True)
class Camera:
    """A pinhole camera; up is +y.

    Attributes:
        eye: Position in metres.
        target: The point in the middle of the picture.
        fov_deg: Vertical field of view in degrees, in (0, 180).

    Raises:
        ValueError: the field of view is out of range, or the camera looks straight up or down.
    """

    eye: tuple[float, float, float]
    target: tuple[float, float, float]
    fov_deg: float = 28.0

    def __post_init__(self) -> None:
        if not 0.0 < self.fov_deg < 180.0:
            raise ValueError(f"fov_deg is {self.fov_deg}, must be in (0, 180)")
        if np.hypot(self.eye[0] - self.target[0], self.eye[2] - self.target[2]) < 1e-6:
            raise ValueError("the camera looks straight up or down")

    @property
    def axes(self) -> FloatArray:
        """(3, 3) rows: right, up and backward, in world coordinates."""
        back = np.subtract(self.eye, self.target).astype(np.float64)
        back /= np.linalg.norm(back)
        right = np.cross([0.0, 1.0, 0.0], back)
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(back, right), back])

    def focal_px(self, height: int) -> float:
        """Focal length in pixels of a picture `height` pixels high."""
        return 0.5 * height / math.tan(math.radians(self.fov_deg) / 2.0)

    def project(self, points: Array, width: int, height: int) -> tuple[Array, Array]:
        """Pixels (..., 2) and depths (...) in metres of points (..., 3)."""
        dtype = np.asarray(points).dtype
        local = (points - np.asarray(self.eye, dtype)) @ self.axes.T.astype(dtype)
        depth = np.maximum(-local[..., 2], _NEAR_M)
        focal = self.focal_px(height)
        x = 0.5 * width + focal * local[..., 0] / depth
        y = 0.5 * height - focal * local[..., 1] / depth
        return np.stack([x, y], axis=-1).astype(dtype), depth


def fit_camera(
    motion: Motion, width: int, height: int, *, fill: float = 0.95, fov_deg: float = 28.0, elevation_m: float = 1.25
) -> Camera:
    """The nearest camera on +z of the dancer that has every joint of every frame in its picture.

    Args:
        motion: The dance.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
        fill: Share of the picture that the dance may use, in (0, 1].
        fov_deg: Vertical field of view in degrees.
        elevation_m: Height of the camera above the floor.
    """
    joints = motion.joints
    top = joints[:, _HEAD] + [0.0, _HEAD_TOP_M, 0.0]
    cloud = np.concatenate([joints.reshape(-1, 3), top]).astype(np.float64)
    return fit_points(
        cloud, width, height, radius_m=_FLESH_M, fill=fill, fov_deg=fov_deg, elevation_m=elevation_m
    )  # fmt: skip


def fit_points(
    cloud: FloatArray,
    width: int,
    height: int,
    *,
    radius_m: float = 0.0,
    fill: float = 0.95,
    fov_deg: float = 28.0,
    elevation_m: float = 1.25,
    aim: FloatArray | None = None,
) -> Camera:
    """The nearest camera on +z that has every point in its picture.

    Args:
        cloud: (N, 3) points in metres.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
        radius_m: Radius of the ball around each point that must be seen too.
        fill: Share of the picture that the points may use, in (0, 1].
        fov_deg: Vertical field of view in degrees.
        elevation_m: Height of the camera above the floor.
        aim: (3,) point in the middle of the picture; the middle of the points' box when None.
    """
    low, high = cloud.min(axis=0), cloud.max(axis=0)
    middle = 0.5 * (low + high) if aim is None else aim
    near, far = 0.5, 60.0
    for _ in range(32):
        distance = 0.5 * (near + far)
        camera = _at(middle, high[2] + distance, fov_deg, elevation_m)
        inside = filled(camera, cloud, width, height, radius_m) <= fill
        near, far = (near, distance) if inside else (distance, far)
    return _at(middle, high[2] + far, fov_deg, elevation_m)


def filled(camera: Camera, cloud: FloatArray, width: int, height: int, radius_m: float = 0.0) -> float:
    """Share of the half picture that the points with their balls reach to; above 1 some are outside."""
    pixels, depth = camera.project(cloud, width, height)
    flesh = radius_m * camera.focal_px(height) / depth[:, None]
    size = np.array([width, height], dtype=np.float64)
    return float(((np.abs(pixels - 0.5 * size) + flesh) / (0.5 * size)).max())


def _at(middle: FloatArray, z: float, fov_deg: float, elevation_m: float) -> Camera:
    eye = (float(middle[0]), elevation_m, float(z))
    return Camera(eye, (float(middle[0]), float(middle[1]), float(middle[2])), fov_deg)
