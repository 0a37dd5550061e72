"""Makes golden.json: every fixed variant on closed-form inputs. Run it after a change that is meant to move numbers.

python tests/metrics/make_golden.py
"""

import json
from pathlib import Path

import numpy as np

from macebench.metrics import beats, diversity, features, frechet

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


def compute() -> dict[str, list[float]]:
    """Every golden number by name."""
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
        generated, reference = values[::2], values[1::2] * 1.1
        found = frechet.frechet_distance(generated, reference)
        kernel = frechet.kernel_distance(generated, reference)
        infinity = frechet.frechet_infinity(generated, reference)
        result[f"fid_{name}"] = [found.value, found.dropped_features]
        result[f"fid_infinity_{name}"] = [infinity.value, infinity.slope]
        result[f"kid_{name}"] = [kernel.value, kernel.standard_error]
        result[f"div_{name}"] = [diversity.diversity(generated, reference=reference)]
    music = 0.3 + 0.5 * np.arange(10)
    for k in (0, 5):
        motion = beats.motion_beats(clips[k], fps=15.0, smoothing_s=1 / 12)
        report = beats.beat_report(music, motion, 5.0, sigma_s=0.1)
        result[f"motion_beats_{k}"] = motion
        result[f"beat_report_{k}"] = [
            report.raw, report.null, report.corrected, report.z, report.precision, report.recall,
            report.f_score, report.best_lag_s, *report.lag_curve[:, 1],
        ]  # fmt: skip
    return {name: [float(item) for item in value] for name, value in result.items()}


if __name__ == "__main__":
    FILE.write_text(json.dumps(compute(), indent=1) + "\n", encoding="utf-8")
