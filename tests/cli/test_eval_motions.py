"""3-D motions as a user scores them: a child process, real files."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

FIXED = "motion3d-fixed/1"
PUBLISHED = ("aist-bailando/1", "finedance-lodge/1", "megadance-eval/1", "mace3d-released/1")


def run(*arguments, status=0, env=None):
    command = [sys.executable, "-m", "macebench", "eval", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})})
    assert done.returncode == status, done.stdout + done.stderr
    return done


def scores(out, index=0):
    entry = json.loads((out / "result.json").read_text())["entries"][index]
    return {score["name"]: score for score in entry["scores"]}


def test_two_halves_of_real_dances_under_the_fixed_protocol(tmp_path, dances):
    mine, real = dances(tmp_path / "mine", 8), dances(tmp_path / "real", 8, first=8)
    done = run("--motions", mine, "--reference", real, "--model", "mine", "--out", tmp_path / "run")
    found = scores(tmp_path / "run")
    assert found["fid_k"]["value"] > 0
    assert found["div_k"]["reference"] > 0
    for name in ("bas", "bas_corrected", "fsr", "pfc", "frozen_share", "motion_energy"):
        assert found[name]["n"] == 8, name
    assert "biased" in done.stdout
    assert "motions" in done.stderr
    assert "poses" not in done.stderr
    assert (tmp_path / "run" / "report.html").is_file()
    assert not (tmp_path / "run" / "poses").exists()


@pytest.mark.slow
def test_every_published_protocol_scores(tmp_path, dances):
    folder = dances(tmp_path / "a", 4)
    chosen = [word for name in PUBLISHED for word in ("--protocol", name)]
    run("--motions", folder, "--reference", folder, "--out", tmp_path / "run", "--no-report", *chosen)
    for index in range(len(PUBLISHED)):
        found = scores(tmp_path / "run", index)
        assert found["fid_k"]["value"] == pytest.approx(0, abs=1e-6)
        assert found["bas"]["value"] is not None


@pytest.mark.slow
def test_a_data_set_gives_its_motions_and_music(tmp_path, dances):
    """`DIR:SPLIT` of a data set: motions/ and music/ are found by clip id; no option names the music."""
    folder = tmp_path / "set"
    dances(folder / "motions", 16, sounds=False)
    dances(folder / "music", 16)
    for path in (folder / "music").glob("*.npz"):
        path.unlink()
    rows = [(f"dance{k}", f"clips/dance{k}.mp4", ("train", "test")[k % 2]) for k in range(16)]
    pd.DataFrame(rows, columns=["clip_id", "file_name", "split"]).to_parquet(folder / "metadata.parquet")
    run("--motions", f"{folder}:train", "--reference", f"{folder}:test", "--out", tmp_path / "run", "--no-report")
    assert scores(tmp_path / "run")["bas"]["n"] == 8


def test_music_is_missing_and_counted(tmp_path, dances):
    folder = dances(tmp_path / "a", 3, sounds=False)
    done = run("--motions", folder, "--reference", folder, "--out", tmp_path / "run", "--no-report", status=3)
    found = scores(tmp_path / "run")
    assert found["bas"]["reasons"] == {"no music": 3}
    assert found["fid_k"]["n"] == 3
    assert "no music" in done.stdout


@pytest.mark.slow
def test_bad_motions_are_counted_with_their_reason(tmp_path, dances):
    folder = dances(tmp_path / "a", 3)
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 not really")
    np.save(folder / "odd.npy", np.zeros((50, 7)))
    np.save(folder / "pickled.npy", np.array({"a": 1}), allow_pickle=True)
    run("--motions", folder, "--reference", folder, "--out", tmp_path / "run", "--no-report", status=3)
    reasons = scores(tmp_path / "run")["fid_k"]["reasons"]
    assert sum(reasons.values()) == 3
    assert "pickle not allowed" in reasons


def test_a_frame_rate_can_be_given(tmp_path, dance):
    folder = tmp_path / "joints"
    folder.mkdir()
    for k in range(3):
        np.save(folder / f"d{k}.npy", dance(k).joints)
    arguments = ("--motions", folder, "--reference", folder, "--no-report")
    run(*arguments, "--out", tmp_path / "one", status=3)
    assert scores(tmp_path / "one")["fid_k"]["reasons"] == {"no frame rate": 3}
    run(*arguments, "--motion-fps", 30, "--out", tmp_path / "two", status=3)
    assert scores(tmp_path / "two")["fid_k"]["n"] == 3


@pytest.mark.slow
def test_workers_do_not_change_a_byte(tmp_path, dances):
    mine, real = dances(tmp_path / "mine", 8), dances(tmp_path / "real", 8, first=8)
    found = []
    for workers in (1, 2):
        out = tmp_path / f"run{workers}"
        env = {"MACEBENCH_STORE": str(tmp_path / f"store{workers}")}
        arguments = ("--motions", mine, "--reference", real, "--training", real, "--calibrate", "--no-report")
        run(*arguments, "--workers", workers, "--out", out, env=env, status=0)
        found.append({p.name: p.read_bytes() for p in out.iterdir() if p.is_file() and p.name != "timing.json"})
    assert found[0] == found[1]


@pytest.mark.slow
def test_copies_of_the_training_set_are_found(tmp_path, dances, dance):
    from macebench.motion import write_motion

    training, mine = dances(tmp_path / "training", 12), dances(tmp_path / "mine", 2, first=20)
    write_motion(mine / "copy.npz", dance(5))
    arguments = ("--motions", mine, "--reference", training, "--training", training, "--out", tmp_path / "run")
    run(*arguments, "--no-report", status=3)  # the copy has no music
    table = pd.read_parquet(tmp_path / "run" / "contamination.parquet").set_index("clip_id")
    assert table.loc["copy", "nearest_clip_id"] == "dance5"
    assert bool(table.loc["copy", "exact"])
    assert not table.loc["dance20", "exact"]


@pytest.mark.slow
def test_a_model_that_moves_is_scored_without_rendering(tmp_path, dances):
    plugin = tmp_path / "sway.py"
    plugin.write_text(
        "import numpy as np\n"
        "from macebench.registry import model\n"
        "from macebench.skeleton import forward_kinematics\n"
        "from macebench.types import ModelCard, Motion\n"
        "@model('sway')\n"
        "class Sway:\n"
        "    card = ModelCard('sway', 'motion', 'Sways.')\n"
        "    def generate(self, music, seed):\n"
        "        rotations = np.zeros((90, 24, 3))\n"
        "        rotations[:, 3, 2] = 0.4 * np.sin(np.arange(90) / 5 + seed)\n"
        "        root = np.tile([0.0, 0.95, 0.0], (90, 1))\n"
        "        return Motion(30.0, forward_kinematics(rotations, root), rotations, root)\n"
    )
    real = dances(tmp_path / "real", 8)
    run(
        "--model", "sway", "--plugin", plugin, "--reference", real, "--protocol", FIXED, "--out", tmp_path / "run",
        "--no-report",
    )  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "run" / "generated-motions").glob("*.npz")) == [
        f"dance{k}.npz" for k in range(8)
    ]
    assert scores(tmp_path / "run")["bas"]["n"] == 8


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--protocol", "ma2d-fixed/1"), "cannot score motions"),
        (("--metric", "temporal_flickering"), "frames:frame_difference"),
        (("--motion-fps", "-3"), "--motion-fps"),
        (("--videos", "."), "both given"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, dances, arguments, words):
    folder = dances(tmp_path / "a", 2)
    done = run("--motions", folder, "--reference", folder, "--out", tmp_path / "run", *arguments, status=2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_pickles_are_refused_with_the_command_that_helps(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "a.pkl").write_bytes(b"\x80\x04N.")
    done = run("--motions", folder, "--reference", folder, "--out", tmp_path / "run", status=2)
    assert "macebench convert" in done.stderr


@pytest.mark.slow
def test_what_a_training_set_cannot_say_is_said(tmp_path, dances, dance):
    """Copies of one dance say nothing of what is usual; a training file that cannot be read is counted."""
    from macebench.motion import write_motion

    mine, same = dances(tmp_path / "mine", 3), tmp_path / "same"
    same.mkdir()
    for k in range(4):
        write_motion(same / f"d{k}.npz", dance(1))
    arguments = ("--motions", mine, "--reference", mine, "--out", tmp_path / "run", "--no-report")
    done = run(*arguments, "--training", same, status=3)
    assert "training: copies under" in done.stdout
    assert len(json.loads((tmp_path / "run" / "result.json").read_text())["training_notes"]) == 1
    training = dances(tmp_path / "training", 6, first=4)
    (training / "broken.npz").write_bytes(b"PK\x03\x04 not really")
    done = run(*arguments, "--training", training, status=3)
    assert "1 of 7 training clips have no features" in done.stdout
    assert "cannot be read: broken: not a motion file" in done.stdout


@pytest.mark.slow
def test_a_copy_that_is_cut_meets_the_same_cut_of_the_training_clip(tmp_path, dances, dance):
    """Bailando's protocol cuts generated dances to 20 s and leaves its reference whole; a copy is found."""
    from macebench.motion import write_motion

    training = dances(tmp_path / "training", 5, first=1)
    write_motion(training / "long.npz", dance(7, seconds=30.0))
    mine = dances(tmp_path / "mine", 2, first=20)
    write_motion(mine / "copy.npz", dance(7, seconds=30.0))
    arguments = ("--motions", mine, "--reference", training, "--training", training, "--out", tmp_path / "run")
    run(*arguments, "--protocol", "aist-bailando/1", "--no-report", status=3)
    table = pd.read_parquet(tmp_path / "run" / "contamination.parquet").set_index("clip_id")
    assert table.loc["copy", "nearest_clip_id"] == "long"
    assert bool(table.loc["copy", "exact"])


@pytest.mark.slow
def test_a_file_that_cannot_be_read_is_named_every_time(tmp_path, dances):
    folder = dances(tmp_path / "a", 2)
    np.save(folder / "odd.npy", np.zeros((50, 7)))
    for _ in range(2):
        done = run("--motions", folder, "--reference", folder, "--out", tmp_path / "run", "--no-report", status=3)
        assert "cannot be read: odd: wrong shape: (50, 7), expected T x 315" in done.stdout


def test_joints_that_are_not_upright_or_not_in_metres_are_pointed_out(tmp_path, dances, dance):
    folder = dances(tmp_path / "a", 2)
    np.savez(folder / "lying.npz", joints=dance(3).joints[..., [0, 2, 1]], fps=30.0)
    np.savez(folder / "giant.npz", joints=1000 * dance(4).joints, fps=30.0)
    done = run("--motions", folder, "--reference", folder, "--out", tmp_path / "run", "--no-report", status=3)
    assert "look at: lying: the body points along z" in done.stdout
    assert "look at: giant: the legs are" in done.stdout
    assert "look at: dance" not in done.stdout
