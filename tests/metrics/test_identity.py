import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macebench import registry
from macebench.errors import Unscorable
from macebench.metrics.identity import FrameTimes, identity_drift, identity_drift_score
from macebench.protocol import PICTURE, load_protocol
from macebench.types import Clip, Evidence, Missing

PROTOCOL = load_protocol("video-referee/1")
BY_PICTURE = PROTOCOL.model_copy(update={"identity_reference": PICTURE})


def turning(degrees, start=0.0):
    """(T, 3) vectors of length 1 that turn away from the first by so many degrees each."""
    angle = np.radians(np.asarray(degrees, dtype=float) + start)
    return np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=1)


def test_distances_of_known_angles():
    found = identity_drift(turning([0, 60, 90]), np.array([0.0, 1.0, 2.0]))
    assert found.mean == pytest.approx((0.5 + 1.0) / 2)
    assert found.slope_per_s == pytest.approx(0.5)
    assert found.minimum == pytest.approx(0.0, abs=1e-12)


def test_the_same_picture_throughout_has_no_drift():
    found = identity_drift(np.tile([[0.3, 0.4, 0.5]], (9, 1)), np.arange(9) / 16)
    assert (found.mean, found.slope_per_s, found.minimum) == pytest.approx((0.0, 0.0, 1.0), abs=1e-12)


def test_the_slope_is_of_seconds_and_not_of_frames():
    cosine = 1.0 - 0.02 * np.arange(20)
    vectors = turning(np.degrees(np.arccos(cosine)))
    assert identity_drift(vectors, np.arange(20) / 10).slope_per_s == pytest.approx(0.2)
    uneven = np.array([0, 1, 5, 9, 10, 18])
    assert identity_drift(vectors[uneven], uneven / 10).slope_per_s == pytest.approx(0.2)


def test_a_reference_picture_of_its_own_counts_every_frame():
    found = identity_drift(turning([60, 60]), np.array([0.0, 1.0]), turning([0])[0])
    assert found.mean == pytest.approx(0.5)
    assert identity_drift(turning([90]), np.array([0.0]), turning([0])[0]).slope_per_s == 0.0


def test_another_dancer_from_the_middle_on_is_drift():
    rng = np.random.default_rng(3)
    one, other = rng.normal(size=(2, 768))
    noise = 0.1 * rng.normal(size=(40, 768))
    steady = one + noise
    swapped = np.where(np.arange(40)[:, None] < 20, one, other) + noise
    times = np.arange(40) / 16
    assert identity_drift(swapped, times).mean > 10 * identity_drift(steady, times).mean
    assert identity_drift(swapped, times).slope_per_s > 0.2 > abs(identity_drift(steady, times).slope_per_s)


@given(st.integers(2, 30), st.floats(0.01, 100.0), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_lengths_of_vectors_and_the_start_of_the_clock_do_not_matter(count, scale, seed):
    vectors, times = np.random.default_rng(seed).normal(size=(count, 6)), np.arange(count) / 24
    plain, other = identity_drift(vectors, times), identity_drift(vectors * scale, times + 7.0)
    assert (plain.mean, plain.minimum) == pytest.approx((other.mean, other.minimum), abs=1e-12)
    assert plain.slope_per_s == pytest.approx(other.slope_per_s, abs=1e-8)
    assert 0.0 <= plain.mean <= 1.0 - plain.minimum <= 2.0


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_frames(count):
    with pytest.raises(Unscorable, match="too short"):
        identity_drift(np.ones((count, 4)), np.arange(count, dtype=float))


def test_wrong_input():
    with pytest.raises(ValueError, match="do not fit"):
        identity_drift(np.ones((3, 4)), np.arange(2.0))
    with pytest.raises(Unscorable, match="no length"):
        identity_drift(np.array([[1.0, 0.0], [0.0, 0.0]]), np.arange(2.0))


def test_timestamps_are_kept_whatever_the_batches():
    statistic = FrameTimes()
    for part in ([0.0, 0.1], [0.4]):
        statistic.update(np.zeros((len(part), 2, 2, 3), np.uint8), np.array(part))
    assert statistic.result().tolist() == [0.0, 0.1, 0.4]
    assert FrameTimes().result().shape == (0,)


def evidence(tmp_path, frames):
    missing = Missing("none")
    return Evidence(
        Clip("a", tmp_path / "a.mp4", "0" * 64), 1.0, missing, missing, frames, lacking={"dino_b16": "gone"}
    )


def test_the_registered_metric(tmp_path):
    frames = {"dino_b16": turning([0, 60, 90]), "frame_times": np.array([0.0, 1.0, 2.0])}
    found = identity_drift_score(evidence(tmp_path, frames), PROTOCOL)
    assert found == pytest.approx({"identity_drift": 0.75, "identity_drift_slope": 0.5, "identity_min": 0.0}, abs=1e-9)
    with pytest.raises(Unscorable, match="gone"):
        identity_drift_score(evidence(tmp_path, {"frame_times": np.arange(3.0)}), PROTOCOL)
    columns = registry.get_metric("identity_drift").columns
    assert {column.better for column in columns} == {"reference"}


def test_the_protocol_decides_between_first_frame_and_picture(tmp_path):
    vectors = turning([0, 60, 90])
    known = evidence(tmp_path, {"dino_b16": vectors, "frame_times": np.array([0.0, 1.0, 2.0])})
    first = identity_drift_score(known, PROTOCOL)
    own = known.replace(identity=vectors[0])
    assert identity_drift_score(own, PROTOCOL) == first
    found = identity_drift_score(own, BY_PICTURE)
    assert found["identity_drift"] == pytest.approx(first["identity_drift"] * 2 / 3)
    assert found["identity_min"] == pytest.approx(first["identity_min"], abs=1e-12)
    other = identity_drift_score(known.replace(identity=turning([180])[0]), BY_PICTURE)
    assert other["identity_drift"] > found["identity_drift"]
    with pytest.raises(Unscorable, match="no reference picture"):
        identity_drift_score(known, BY_PICTURE)
    with pytest.raises(Unscorable, match="gone"):
        identity_drift_score(own.replace(frames={"frame_times": np.arange(3.0)}), BY_PICTURE)


@pytest.mark.parametrize("name", ["ground-truth", "mirrored", "time-shifted", "jitter", "frozen", "identity-swap"])
def test_calibration_keeps_the_picture(tmp_path, name):
    known = evidence(tmp_path, {"dino_b16": turning([0, 60]), "frame_times": np.arange(2.0)})
    known = known.replace(identity=turning([5])[0])
    changed = registry.get("models", name)().transform([known, known], 0)
    assert np.array_equal(changed.identity, known.identity)
