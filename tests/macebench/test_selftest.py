import json
import math
from pathlib import Path

import numpy as np
import pytest

from macebench import registry
from macebench.demo.choreography import choreograph
from macebench.errors import UserError
from macebench.motion import write_motion
from macebench.registry import Column, Metric
from macebench.render.camera import fit_camera
from macebench.selftest import SelftestConfig, plan_selftest, run_selftest, write_selftest
from macebench.selftest.expectations import expectation
from macebench.selftest.judge import Answers, badness, d_prime, judged, verdict
from macebench.selftest.measure import Outcome, Splits, half_splits
from macebench.selftest.projected import projected_pose
from macebench.selftest.schema import CARD_FILE, CSV_FILE, JSON_FILE, PAGE_FILE, PLOT_FILE, Level, SelftestResult
from macebench.selftest.study import chosen_strengths
from macebench.skeleton import COCO17, COCO25, SMPL_JOINTS, coco25_to_coco17, forward_kinematics
from macebench.types import Motion

PLUGIN = '''
from macebench.registry import Column, metric


@metric("doctor", columns=(Column("good_sign", better="higher"), Column("bad_sign", better="lower")), needs=("motion",))
def doctor(evidence, protocol):
    """The path of the root."""
    import numpy as np

    path = float(np.abs(np.diff(evidence.need_motion().joints[:, 0], axis=0)).sum())
    return {"good_sign": path, "bad_sign": path}
'''


def normal(mean, deviation=1.0, n=400, seed=0):
    values = np.random.default_rng(seed).normal(size=n)
    return mean + deviation * (values - values.mean()) / values.std(ddof=1)


def test_d_prime_of_known_distributions():
    assert d_prime(normal(2.0, 1.0, seed=1), normal(0.5, 2.0)) == pytest.approx(1.5 / math.sqrt(2.5), rel=0.05)
    assert d_prime(normal(-1.0, seed=1), normal(1.0)) == pytest.approx(-2.0, rel=0.1)
    assert d_prime(np.ones(9), np.ones(9)) == 0.0
    assert d_prime(np.full(9, 2.0), np.ones(9)) == 99.0
    assert d_prime(np.full(9, 0.5), np.ones(9)) == -99.0
    assert d_prime(np.array([1.0, np.nan]), np.ones(9)) is None


def test_d_prime_is_not_drowned_by_a_heavy_tail():
    clean = normal(0.0, n=20)
    damaged = 10.0 ** np.linspace(2, 8, 20)
    assert (damaged.mean() - clean.mean()) / math.sqrt((damaged.var() + clean.var()) / 2) < 1
    assert d_prime(damaged, clean) > 3


def test_d_prime_ignores_rounding():
    assert d_prime(np.full(9, 1e-17), np.zeros(9)) == 0.0


def test_badness_follows_the_direction_of_the_column():
    values, reference = np.array([1.0, 4.0]), np.array([2.0, 2.0])
    for better, of_clips, expected in (
        ("lower", False, [1, 4]), ("lower", True, [-1, 2]), ("higher", True, [1, -2]), ("reference", False, [1, 2]),
    ):  # fmt: skip
        assert badness(values, reference, Column("x", better=better), of_clips=of_clips).tolist() == expected


def levels(*d_primes):
    return [Level(strength=1.0 + i, value=1.0, d_prime=d, n_scored=9) for i, d in enumerate(d_primes)]


@pytest.mark.parametrize(
    ("claim", "d_primes", "expected"),
    [
        ("worse", (0.2, 1.0), "right"), ("worse", (3.0, 0.9), "blind"), ("worse", (3.0, -1.0), "wrong"),
        ("worse", (3.0, None), "refused"), ("unchanged", (0.9, -1.0), "invariant"),
        ("unchanged", (1.1, 0.0), "changed"), ("unchanged", (0.0, -1.1), "changed"),
        ("unchanged", (None, None), "refused"), ("none", (50.0,), "no claim"),
    ],
)  # fmt: skip
def test_verdicts(claim, d_primes, expected):
    assert verdict(claim, levels(*d_primes), measured=True) == expected
    assert verdict(claim, levels(*d_primes), measured=False) == "not measured"


def answers(changes, better="lower", column="fid_k"):
    """Answers of one set column whose value moves by `changes` deviations."""
    metric = Metric("made_up", lambda *_: 0.0, (Column(column, better=better),), frozenset({"pose"}), "kinetic_2d")
    splits = [Splits({column: normal(5.0 + change, seed=i)}, {column: 9}) for i, change in enumerate((0.0, *changes))]
    clean = Outcome((splits[0],), {column: normal(5.0, seed=99)}, {}, 40)
    found = Outcome(tuple(splits[1:]), {}, {}, 40)
    strengths = tuple(0.1 * (i + 1) for i in range(len(changes)))
    return Answers("made-up/1", "video-2d", [metric], clean, {"jitter": (strengths, found)})


def test_a_metric_that_notices():
    [cell], [card] = judged(answers((0.5, 1.5, 3.0, 6.0)))
    assert (cell.verdict, cell.monotone, cell.rho, cell.found_from) == ("right", True, 1.0, pytest.approx(0.3))
    assert [level.value for level in cell.levels] == pytest.approx([5.5, 6.5, 8.0, 11.0])
    assert (card.share_right, card.share_monotone, card.blind_spot, card.failures) == (1.0, 1.0, None, ())
    assert card.mean_d_prime == pytest.approx(6.0, rel=0.05)
    assert card.detectable == pytest.approx(3.962, rel=0.01)
    assert (card.n, card.n_worse, card.n_unchanged) == (20, 1, 0)


def test_a_metric_that_goes_the_wrong_way_and_one_that_turns_round():
    [cell], [card] = judged(answers((-1.0, -3.0)))
    assert (cell.verdict, cell.rho, cell.monotone, cell.found_from) == ("wrong", -1.0, False, None)
    assert (card.share_right, card.blind_spot, card.failures) == (0.0, "jitter", ("jitter",))
    [cell], _ = judged(answers((9.0, 3.0)))
    assert (cell.verdict, cell.monotone) == ("right", False)


def test_wrong_cells_of_repaired_protocols_are_found():
    result = run_of(answers((-1.0, -3.0)))
    assert [cell.column for cell in result.wrong_fixed] == ["fid_k"]


def run_of(given):
    cells, cards = judged(given)
    renamed = [cell.model_copy(update={"protocol": name}) for name in ("x-fixed/1", "x-paper/1") for cell in cells]
    return SelftestResult(source="s", n_clips=40, n_half=20, repeats=9, seed=0, protocols=(), damages=(),
                          cells=tuple(renamed), cards=tuple(cards), environment={})  # fmt: skip


def test_expectations():
    assert expectation("fid_k", "translation", "motion-3d", {"motion"}) == "unchanged"
    assert expectation("fid_k", "scale", "video-2d", {"pose"}) == "unchanged"
    assert expectation("fid_k", "scale", "motion-3d", {"motion"}) == "none"
    assert expectation("fid_k", "dropped-joints", "motion-3d", {"motion"}) == "worse"
    assert expectation("bas", "wrong-music", "motion-3d", {"motion", "music"}) == "worse"
    assert expectation("unheard_of", "wrong-music", "video-2d", {"pose"}) == "unchanged"
    assert expectation("unheard_of", "wrong-music", "video-2d", {"pose", "music"}) == "none"
    assert expectation("unheard_of", "jitter", "video-2d", {"pose"}) == "none"


def test_half_splits_are_halves_that_depend_on_the_seed():
    splits = half_splits(9, 30, 0)
    assert splits.shape == (30, 9)
    assert (splits.sum(axis=1) == 4).all()
    assert len({row.tobytes() for row in splits}) > 20
    assert np.array_equal(splits, half_splits(9, 30, 0))
    assert not np.array_equal(splits, half_splits(9, 30, 1))


def test_chosen_strengths_end_with_the_strongest():
    from macebench.baselines.degradations import DEGRADATIONS

    jitter = DEGRADATIONS["jitter"]
    assert chosen_strengths(jitter, 5) == jitter.strengths
    assert chosen_strengths(jitter, 1) == jitter.strengths[-1:]
    for count in (2, 3, 4):
        found = chosen_strengths(jitter, count)
        assert len(set(found)) == count
        assert found[-1] == jitter.strengths[-1]
        assert list(found) == sorted(found)


def test_projected_poses_are_what_the_camera_sees():
    motion = choreograph(np.arange(0.3, 3.0, 0.5), 3.0, 30.0, 1).motion
    pose = projected_pose(motion)
    camera = fit_camera(motion, 512, 512)
    for name in ("lwrist", "rknee", "lankle"):
        expected, _ = camera.project(motion.joints[:, SMPL_JOINTS.index(name)], 512, 512)
        np.testing.assert_allclose(pose.keypoints[:, COCO25.index(name)], expected)
    assert pose.keypoints.min() > 0
    assert pose.keypoints.max() < 512
    assert pose.fps == pytest.approx(30.0)
    first = dict(zip(COCO17, coco25_to_coco17(pose.keypoints)[0], strict=True))
    assert first["nose"][1] < first["lshoulder"][1] < first["lhip"][1] < first["lankle"][1]


def test_projected_faces_look_ahead():
    still = forward_kinematics(np.zeros((2, 24, 3)), np.array([[0.0, 1.0, 0.0]] * 2))
    named = dict(zip(COCO25, projected_pose(Motion(30.0, still)).keypoints[0], strict=True))
    assert named["leye"][0] > named["nose"][0] > named["reye"][0]
    assert named["lear"][0] > named["leye"][0]
    assert named["lsmalltoe"][0] > named["lbigtoe"][0] > named["rbigtoe"][0] > named["rsmalltoe"][0]


@pytest.mark.parametrize(
    "changes",
    [{"n": 7}, {"repeats": 1}, {"strengths": 0}, {"strengths": 6}, {"workers": 0},
     {"motions": Path("a"), "videos": Path("b")}],
)  # fmt: skip
def test_wrong_values_are_refused(tmp_path, changes):
    with pytest.raises(UserError):
        plan_selftest(SelftestConfig(out=tmp_path, **changes))


def test_a_protocol_of_another_track_is_refused(tmp_path):
    (tmp_path / "motions").mkdir()
    with pytest.raises(UserError, match="cannot score"):
        plan_selftest(SelftestConfig(out=tmp_path, motions=tmp_path / "motions", protocols=("ma2d-fixed/1",)))


def test_the_plan_counts(tmp_path):
    planned = plan_selftest(
        SelftestConfig(out=tmp_path, n=8, protocols=("ma2d-fixed/1", "motion3d-fixed/1"), strengths=2)
    )
    assert planned.n_scorings == 8 * ((1 + 12 * 2) + (1 + 11 * 2))
    assert planned.protocols == ("ma2d-fixed/1", "motion3d-fixed/1")


def small(out, **changes):
    settings = {"n": 8, "repeats": 4, "strengths": 1, "protocols": ("motion3d-fixed/1",), **changes}
    return SelftestConfig(out=out, **settings)


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_workers(tmp_path):
    folders = []
    for workers in (1, 2):
        result = run_selftest(small(tmp_path, workers=workers, protocols=("ma2d-fixed/1", "motion3d-fixed/1")))
        folder = tmp_path / str(workers)
        write_selftest(result, folder)
        folders.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert folders[0] == folders[1]
    assert set(folders[0]) == {JSON_FILE, CSV_FILE, CARD_FILE, PLOT_FILE, PAGE_FILE}


def test_a_plugin_is_tested_too_and_its_direction_is_seen(tmp_path):
    path = tmp_path / "doctor.py"
    path.write_text(PLUGIN)
    result = run_selftest(small(tmp_path, plugins=(path,), metrics=("doctor",)))
    cells = {(cell.column, cell.damage): cell for cell in result.cells}
    for damage in ("freeze", "half-speed"):
        assert cells["good_sign", damage].d_prime > 1
        assert cells["bad_sign", damage].d_prime == pytest.approx(-cells["good_sign", damage].d_prime)
    assert cells["good_sign", "wrong-music"].verdict == "invariant"
    assert cells["good_sign", "jitter"].verdict == "no claim"


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    out = tmp_path_factory.mktemp("selftest")
    result = run_selftest(small(out, n=16, repeats=8, strengths=2))
    write_selftest(result, out)
    return result, out


def test_what_must_be_noticed_is_noticed_by_the_repaired_protocol(answered):
    result, _ = answered
    cells = {(cell.column, cell.damage): cell for cell in result.cells}
    seen = (("fid_k", "jitter"), ("fid_k", "freeze"), ("bas_corrected", "wrong-music"), ("bas", "time-shift"))
    for column, damage in (*seen, ("fsr", "foot-skate"), ("frozen_share", "freeze")):
        assert cells[column, damage].verdict == "right", (column, damage)
    for column, damage in (("fid_k", "translation"), ("fid_g", "mirror"), ("fid_k", "wrong-music"), ("bas", "scale")):
        assert cells[column, damage].verdict == "invariant", (column, damage)
    assert not result.wrong_fixed


def test_values_of_a_clip_metric_are_its_means(answered):
    result, _ = answered
    card = next(card for card in result.cards if card.column == "bas")
    assert 0 < card.clean <= 1
    assert card.clean == pytest.approx(card.reference, abs=0.1)
    assert card.detectable > 0
    assert card.n == 8


def test_files_of_a_result(answered):
    result, out = answered
    assert SelftestResult.read(out) == result
    rows = (out / CSV_FILE).read_text().splitlines()
    assert len(rows) == 1 + len(result.cells) * 2
    assert rows[0].startswith("protocol,column,damage,unit,strength")
    cards = (out / CARD_FILE).read_text().splitlines()
    assert len(cards) == 1 + len(registry_columns())
    page = (out / PAGE_FILE).read_text("utf-8")
    assert "http://" not in page
    assert "https://" not in page
    assert "style=" not in page
    assert (out / PLOT_FILE).read_bytes().startswith(b"\x89PNG")
    assert "NaN" not in json.dumps(json.loads((out / JSON_FILE).read_text()))


def registry_columns():
    from macebench.protocol import load_protocol

    metrics = [registry.get_metric(name) for name in load_protocol("motion3d-fixed/1").metrics]
    return [column for metric in metrics for column in metric.columns]


def test_a_folder_without_a_result(tmp_path):
    with pytest.raises(UserError, match=JSON_FILE):
        SelftestResult.read(tmp_path)


def test_a_folder_of_motions(tmp_path):
    for seed in range(8):
        motion = choreograph(np.arange(0.3, 3.0, 0.5), 3.0, 30.0, seed).motion
        write_motion(tmp_path / "motions" / f"dance{seed}.npz", motion)
    config = small(tmp_path / "out", motions=tmp_path / "motions", store=tmp_path / "store")
    result = run_selftest(config)
    verdicts = {(cell.column, cell.damage): cell.verdict for cell in result.cells}
    assert verdicts["bas", "wrong-music"] == "not measured"
    assert verdicts["fsr", "foot-skate"] == "right"
    assert "bas" in result.measured("motion3d-fixed/1")[1]


@pytest.mark.slow
def test_a_folder_of_videos(tmp_path, tiny_world_many):
    config = small(
        tmp_path / "out", videos=tiny_world_many.videos, protocols=("ma2d-fixed/1",), pose="precomputed",
        pose_settings={"folder": tiny_world_many.poses}, store=tmp_path / "store", limit=8,
    )  # fmt: skip
    result = run_selftest(config)
    verdicts = {(cell.column, cell.damage): cell.verdict for cell in result.cells}
    assert result.n_clips == 8
    assert verdicts["fid_k", "translation"] == "invariant"
    assert verdicts["frozen_share", "freeze"] == "right"
    card = next(card for card in result.cards if card.column == "temporal_flickering")
    assert 0 < card.clean < 1
