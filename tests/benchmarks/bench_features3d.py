"""3-D features of many clips against the per-frame loops of the public scripts, on one core in the same run.

Times are processor seconds of all threads.

The reference visits every joint, frame and window term in Python, as aistplusplus_api, Bailando and LODGE do.
Both sides must agree, or the run fails. Usage: bench_features3d.py [--clips N] [--frames T] [--loops N]
"""

import argparse
import sys
import time

import numpy as np

from macebench.metrics._features_geometric3d import rest_lengths
from macebench.metrics._relations import RELATIONS
from macebench.metrics.features import geometric_features, kinetic_features
from macebench.skeleton import SMPL_JOINTS, forward_kinematics

DT, GEOMETRIC_DT, HALF = 1 / 60, 1 / 120, 2


def dances(count: int, frames: int) -> list[np.ndarray]:
    """Closed-form dances of (T, 24, 3) metres."""
    t, j, c = np.arange(frames)[:, None, None] / 30, np.arange(24)[:, None], np.arange(3)
    turn = [0.4 * np.sin(2 * np.pi * (0.3 + 0.04 * ((7 * j + k) % 9)) * t + j + 2 * c + k) for k in range(count)]
    sway = [np.array([0.3, 0.9, 0.1]) + 0.2 * np.sin(t[:, 0] * (1 + c) + k) for k in range(count)]
    return [forward_kinematics(angles, root) for angles, root in zip(turn, sway, strict=True)]


def mean_velocity(p: np.ndarray, i: int, joint: int) -> np.ndarray:
    """Mean over the window of one joint in one frame."""
    total, terms = np.zeros(3), 0
    for k in range(-HALF, HALF + 1):
        if i + k - 1 < 0 or i + k >= len(p):
            continue
        total += p[i + k][joint] - p[i + k - 1][joint]
        terms += 1
    return total / (terms * DT)


def mean_acceleration(p: np.ndarray, i: int, joint: int) -> float:
    """Size of the mean over the window, with the misplaced bracket."""
    total, terms = np.zeros(3), 0
    for k in range(-HALF, HALF + 1):
        if i + k - 1 < 0 or i + k + 1 >= len(p):
            continue
        after = (p[i + k + 1][joint] - p[i + k][joint]) / DT
        total += (after - (p[i + k][joint] - p[i + k - 1][joint] / DT)) / DT
        terms += 1
    return float(np.linalg.norm(total / max(terms, 1)))


def loop_kinetic(p: np.ndarray) -> np.ndarray:
    """(72,) by one pass over the frames for each joint and feature."""
    values: list[float] = []
    for joint in range(p.shape[1]):
        frames = range(1, len(p))
        values.append(sum(float(np.linalg.norm(mean_velocity(p, i, joint)[[0, 2]])) ** 2 for i in frames))
        values.append(sum(float(np.abs(mean_velocity(p, i, joint)[1])) ** 2 for i in frames))
        values.append(sum(mean_acceleration(p, i, joint) for i in frames))
    return np.array(values) / (len(p) - 1)


def answers(relation: object, last: dict, now: dict, limit: float) -> bool:
    """One question of one frame."""
    points = [now[name] for name in relation.joints]
    if relation.kind == "fast":
        return bool(np.linalg.norm(points[0] - last[relation.joints[0]]) / GEOMETRIC_DT > limit)
    if relation.kind == "angle":
        first, second = points[1] - points[0], points[3] - points[2]
        degrees = np.degrees(np.arccos(first @ second / (np.linalg.norm(first) * np.linalg.norm(second))))
        return bool(relation.degrees[0] < degrees < relation.degrees[1])
    a, b, c = points[:3]
    axis = np.cross(c - a, b - a) if relation.kind in ("nmove", "plane") else b - a
    if relation.kind == "plane":
        return bool((points[3] - a) @ axis / np.linalg.norm(axis) > limit)
    if relation.kind == "nplane":
        return bool((points[3] - c) @ axis / np.linalg.norm(axis) > limit)
    moved = (points[-1] - a) - (last[relation.joints[-1]] - last[relation.joints[0]])
    return bool(moved @ axis / np.linalg.norm(axis) / GEOMETRIC_DT > limit)


def loop_geometric(p: np.ndarray) -> np.ndarray:
    """(32,) by one pass over the frames for all relations."""
    lengths, counts = rest_lengths(), np.zeros(len(RELATIONS))
    frames = [dict(zip(SMPL_JOINTS, frame, strict=True)) for frame in p]
    for frame in frames:
        low = min(point[1] for point in frame.values())
        frame |= {"zero": np.zeros(3), "y_min": np.array([0.0, low, 0.0])}
        frame |= {"y_unit": np.array([0.0, 1.0, 0.0]), "minus_y_unit": np.array([0.0, -1.0, 0.0])}
    for t in range(1, len(frames)):
        for k, relation in enumerate(RELATIONS):
            limit = relation.factor * lengths[relation.length]
            counts[k] += answers(relation, frames[t - 1], frames[t], limit)
    return counts / (len(p) - 1)


def main() -> int:
    """Time both, compare them, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--loops", type=int, default=3, help="clips that the reference does")
    given = parser.parse_args()
    kinds = dances(min(given.clips, 16), given.frames)
    clips = [kinds[k % len(kinds)] for k in range(given.clips)]
    for clip in kinds[: given.loops]:  # warm both, and compare
        np.testing.assert_allclose(kinetic_features(clip, fps=30, variant="aist"), loop_kinetic(clip), rtol=1e-6)
        np.testing.assert_allclose(geometric_features(clip, fps=30, variant="aist"), loop_geometric(clip), atol=1e-7)
    start = time.process_time()
    for clip in kinds[: given.loops]:
        loop_kinetic(clip)
        loop_geometric(clip)
    reference = (time.process_time() - start) / min(given.loops, len(kinds))
    for variant in ("aist", "fixed"):
        start = time.process_time()
        for clip in clips:
            kinetic_features(clip, fps=30, variant=variant)
            geometric_features(clip, fps=30, variant=variant)
        mine = (time.process_time() - start) / len(clips)
        sys.stdout.write(
            f"{variant}: {1e3 * mine:.2f} ms a clip of {given.frames} frames over {len(clips)} clips, "
            f"per-frame loop {1e3 * reference:.0f} ms, ratio {reference / mine:.0f}\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
