"""Makes golden.json: every fixed variant on closed-form inputs. Run it after a change that is meant to move numbers.

python tests/metrics/make_golden.py
"""

import json
from pathlib import Path

import numpy as np

from macebench.metrics import activity, beats, contact, diversity, features, frechet
from macebench.skeleton import forward_kinematics

FILE = Path(__file__).with_name("golden.json")
REST = np.array(
    [[0, 60], [3, 63], [-3, 63], [6, 61], [-6, 61], [16, 44], [-16, 44], [22, 20], [-22, 20], [24, 0], [-24, 0],
     [9, 0], [-9, 0], [10, -30], [-10, -30], [11, -60], [-11, -60]], dtype=float,
)  # fmt: skip


def dance(k: int, n_frames: int = 75, fps: float = 15.0) -> np.ndarray:
    """(T, 17, 2) pixels: a stick figure whose limbs swing; no random numbers."""
    t = np.arange(n_frames)[:, None] / fps
    accents = 1.6 + 0.05 * k  # a second: everything slows down there
    t = t - 0.8 * np.sin(2 * np.pi * accents * t) / (2 * np.pi * accents)
    joint = np.arange(17)[None]
    limb = np.array([1, 1, 1, 1, 1, 1, 1, 7, 7, 14, 14, 1, 1, 7, 7, 12, 12])[None]
    amplitude = 1.5 + limb * (1.0 + 0.3 * ((7 * joint + 3 * k) % 5))
    x = amplitude * np.sin(2 * np.pi * (0.9 + 0.07 * k) * t + 0.3 * joint + 0.5 * k) + 8 * np.sin(t + k)
    y = 1.5 * amplitude * np.sin(2 * np.pi * (0.5 + 0.11 * k) * t + 0.7 * joint + 0.2 * k)
    return np.stack([200 + REST[None, :, 0] + x, 240 - REST[None, :, 1] + y], axis=-1)


def dance_3d(k: int, n_frames: int = 120, fps: float = 30.0) -> np.ndarray:
    """(T, 24, 3) metres: swinging SMPL limbs on feet that step and slide a little; no random numbers."""
    t = np.arange(n_frames)[:, None, None] / fps
    accents = 1.5 + 0.04 * k
    t = t - 0.7 * np.sin(2 * np.pi * accents * t) / (2 * np.pi * accents)
    joint, axis = np.arange(24)[None, :, None], np.arange(3)[None, None]
    swing = 0.08 + 0.05 * ((7 * joint + 3 * k + axis) % 5)
    angles = swing * np.sin(
        2 * np.pi * (0.4 + 0.03 * ((5 * joint + axis) % 7)) * t + 0.3 * joint + 0.9 * axis + 0.5 * k
    )
    sway = (0.05 + 0.01 * k) * np.sin(2 * np.pi * (0.3 + 0.1 * np.arange(3)) * t[:, 0] + 0.7 * k)
    return forward_kinematics(angles, np.array([0.2, 0.95, -0.1]) + sway)


def compute() -> dict[str, list[float]]:
    """Every golden number by name."""
    return compute_2d() | compute_3d()


def compute_3d() -> dict[str, list[float]]:
    """The fixed variants of motion in space."""
    clips = [dance_3d(k) for k in range(24)]
    kinetic = np.stack([features.kinetic_features(clip, fps=30.0) for clip in clips])
    geometric = np.stack([features.geometric_features(clip, fps=30.0) for clip in clips])
    result = {
        "kinetic_3d_clip0": kinetic[0],
        "kinetic_3d_sum": kinetic.sum(axis=1),
        "geometric_3d_clip0": geometric[0],
        "geometric_3d_sum": geometric.sum(axis=1),
        "kinetic_3d_50fps": features.kinetic_features(dance_3d(3, 200, 50.0), fps=50.0),
    }
    for name, values in (("k_3d", kinetic), ("g_3d", geometric)):
        result |= set_numbers(name, values)
    skating = [contact.foot_skating_ratio(clip, fps=30.0) for clip in clips]
    errors = [contact.foot_contact_error(clip, fps=30.0) for clip in clips]
    moves = [activity.activity(clip, fps=30.0, still_speed=activity.STILL_M_S) for clip in clips]
    result |= {
        "fsr_3d": [-1.0 if found.value is None else found.value for found in skating],
        "pfc_3d": [contact.physical_foot_contact(clip, fps=30.0) for clip in clips],
        "pfc_3d_50fps": [contact.physical_foot_contact(dance_3d(3, 200, 50.0), fps=50.0)],
        "foot_contact_3d": [
            value for found in errors for value in (found.penetration_m, found.float_m, found.slide_m_s or -1.0)
        ],
        "activity_3d": [value for found in moves for value in (found.frozen_share, found.motion_energy)],
    }
    music = 0.2 + 0.5 * np.arange(8)
    for k in (0, 5):
        result |= beat_numbers(f"3d_{k}", beats.motion_beats(clips[k], fps=30.0, smoothing_s=1 / 12), music, 4.0)
    return {name: [float(item) for item in value] for name, value in result.items()}


def set_numbers(name: str, values: np.ndarray) -> dict[str, list[float]]:
    """Distances and diversity of the even clips against the odd ones, made a tenth larger."""
    generated, reference = values[::2], values[1::2] * 1.1
    found = frechet.frechet_distance(generated, reference)
    kernel = frechet.kernel_distance(generated, reference)
    infinity = frechet.frechet_infinity(generated, reference)
    return {
        f"fid_{name}": [found.value, found.dropped_features],
        f"fid_infinity_{name}": [infinity.value, infinity.slope],
        f"kid_{name}": [kernel.value, kernel.standard_error],
        f"div_{name}": [diversity.diversity(generated, reference=reference)],
    }


def beat_numbers(name: str, motion: np.ndarray, music: np.ndarray, duration_s: float) -> dict[str, list[float]]:
    """Motion beats and everything of their report."""
    report = beats.beat_report(music, motion, duration_s, sigma_s=0.1)
    return {
        f"motion_beats_{name}": motion,
        f"beat_report_{name}": [
            report.raw, report.null, report.corrected, report.z, report.precision, report.recall,
            report.f_score, report.best_lag_s, *report.lag_curve[:, 1],
        ],
    }  # fmt: skip


def compute_2d() -> dict[str, list[float]]:
    """The fixed variants of motion in the picture."""
    clips = [dance(k) for k in range(24)]
    seen = np.ones((75, 17))
    kinetic = np.stack([features.kinetic_features_2d(clip, seen, fps=15.0) for clip in clips])
    geometric = np.stack([features.geometric_features_2d(clip, seen, fps=15.0) for clip in clips])
    holes = dance(3)
    holes[20:40, 9] = np.nan
    result = {
        "kinetic_clip0": kinetic[0],
        "kinetic_sum": kinetic.sum(axis=1),
        "geometric_clip0": geometric[0],
        "geometric_sum": geometric.sum(axis=1),
        "kinetic_holes": features.kinetic_features_2d(holes, seen, fps=15.0),
        "geometric_holes": features.geometric_features_2d(holes, seen, fps=15.0),
    }
    for name, values in (("k", kinetic), ("g", geometric)):
        result |= set_numbers(name, values)
    moves = [activity.activity(clip / 44.0, fps=15.0, still_speed=activity.STILL_TORSOS_S) for clip in clips[:6]]
    result["activity_2d"] = [value for found in moves for value in (found.frozen_share, found.motion_energy)]
    music = 0.3 + 0.5 * np.arange(10)
    for k in (0, 5):
        result |= beat_numbers(str(k), beats.motion_beats(clips[k], fps=15.0, smoothing_s=1 / 12), music, 5.0)
    return {name: [float(item) for item in value] for name, value in result.items()}


if __name__ == "__main__":
    FILE.write_text(json.dumps(compute(), indent=1) + "\n", encoding="utf-8")
