import csv
import dataclasses
import io
import json
import math
import runpy
from pathlib import Path

import numpy as np
import pytest

from macebench.cli.compare import _better
from macebench.compare import COSTLY_PERMUTATIONS, TOO_FEW, UNKNOWN_METRIC, _judged, compare_runs, write_comparison
from macebench.compare_plot import _turn
from macebench.compare_records import Comparison, Contrast, as_csv
from macebench.errors import UserError
from macebench.metrics.frechet import frechet_distance
from macebench.metrics.statistics import bootstrap_mean, holm, permutation_test, sign_flip_test
from macebench.protocol import Reference, load_protocol
from macebench.registry import get_metric, metric
from macebench.results import RunResult

FOLDERS = runpy.run_path(str(Path(__file__).resolve().parents[1] / "run_folders.py"))
REFERENCE = Reference(name="ref", sha256="cd" * 32, n=30)
FIXED = load_protocol("ma2d-fixed/1").resolve(FOLDERS["BACKEND"], REFERENCE)
N_REFERENCE, N = 30, 24


def rows_of(model, protocol, role, n, seed, *, shift=0.0, piece=None, name="clip"):
    """Rows with random features and values, moved by `shift`; `piece` gives the hash of a clip's music by index."""
    rng = np.random.default_rng(seed)
    columns, sizes = FOLDERS["columns_of"](protocol)
    blank = FOLDERS["clip_row"](model, protocol, "x", role, 0)
    return [
        dataclasses.replace(
            blank, clip_id=f"{name}{k:02d}", sha256=FOLDERS["sha"](f"{name}{k}"),
            music_sha256=piece(k) if piece else "",
            values={c: 0.5 + shift + 0.1 * rng.standard_normal() for c in columns},
            features={f: rng.standard_t(6, size) + 2 * shift for f, size in sizes.items()},
        )
        for k in range(n)
    ]  # fmt: skip


def write(folder, models, protocols=(FIXED,), *, reference_seed=0, edit=None, **options):
    """A run folder with the given models: name -> (kind, seed, shift)."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for protocol in protocols:
        rows += rows_of("reference", protocol, "reference", N_REFERENCE, reference_seed, name="ref")
        for name, (_, seed, shift) in models.items():
            rows += rows_of(name, protocol, "generated", N, seed, shift=shift, **options)
    rows = edit(rows) if edit else rows
    FOLDERS["write_run"](folder, list(protocols), [(name, kind) for name, (kind, *_) in models.items()], rows, [])
    return folder


@pytest.fixture
def runs(tmp_path):
    """A good model and a worse one, in two runs."""
    return write(tmp_path / "a", {"good": ("motion", 1, 0.0)}), write(tmp_path / "b", {"bad": ("motion", 2, 0.6)})


def by_name(comparison, index=0):
    return {test.name: test for test in comparison.protocols[index].tests}


def test_every_score_is_tested_and_the_better_model_is_found(runs):
    found = compare_runs(*runs, n_permutations=400)
    tests = by_name(found)
    columns, _ = FOLDERS["columns_of"](FIXED)
    assert set(tests) == {"fid_k", "fid_g", "div_k", "div_g", *columns}
    assert (found.first.model, found.second.model, found.first.run) == ("good", "bad", "a")
    for name in ("fid_k", "bas", "beat_f"):
        assert tests[name].significant
        assert tests[name].favours == tests[name].verdict == "first"
    fid, bas = tests["fid_k"], tests["bas"]
    assert (fid.kind, fid.low, fid.high, fid.n, fid.n_permutations) == ("set", None, None, N, 400)
    assert fid.difference < fid.null_low
    assert bas.kind == "mean"
    assert bas.low < bas.difference < bas.high < 0
    assert bas.effect < 0
    assert 0 < bas.detectable < 0.2


def test_numbers_are_those_of_the_statistics(runs):
    from macebench.tables import read_clips

    tests = by_name(compare_runs(*runs, n_permutations=200, seed=5))
    tables = [read_clips(run / "clips.parquet") for run in runs]
    a, b = (t[t["role"] == "generated"].sort_values("clip_id") for t in tables)
    features = [np.stack(t["feature.kinetic_2d"].to_list()) for t in (a, b)]
    reference = tables[0][tables[0]["role"] == "reference"].sort_values("clip_id")
    reference = np.stack(reference["feature.kinetic_2d"].to_list())
    expected = permutation_test(*features, lambda x: frechet_distance(x, reference).value, n_permutations=200, seed=5)
    fid = tests["fid_k"]
    assert (fid.first, fid.second, fid.p_value) == (expected.first, expected.second, expected.p_value)
    assert fid.null_low == pytest.approx(expected.null_low)
    gaps = a["bas"].to_numpy() - b["bas"].to_numpy()
    interval = bootstrap_mean(gaps, n_resamples=200, seed=5)
    assert (tests["bas"].low, tests["bas"].high) == (interval.low, interval.high)
    assert tests["bas"].p_value == sign_flip_test(gaps, n_permutations=200, seed=5).p_value
    listed = list(tests.values())
    np.testing.assert_allclose([t.p_holm for t in listed], holm([t.p_value for t in listed]))


def test_two_equal_models_differ_by_nothing(runs):
    tests = by_name(compare_runs(runs[0], runs[0], n_permutations=50))
    assert {test.p_value for test in tests.values()} == {1.0}
    assert {test.p_holm for test in tests.values()} == {1.0}
    assert {test.difference for test in tests.values()} == {0.0}
    assert {test.effect for test in tests.values()} == {0.0}
    assert {test.verdict for test in tests.values()} == {"open"}
    assert {test.favours for test in tests.values()} == {"neither"}


def test_order_of_the_runs_turns_the_signs(runs):
    one, two = (by_name(compare_runs(*pair, n_permutations=99)) for pair in (runs, runs[::-1]))
    for name, test in one.items():
        assert two[name].difference == pytest.approx(-test.difference)
        assert two[name].p_value == test.p_value
        assert {test.favours, two[name].favours} == {"first", "second"}


def test_models_are_chosen_by_name(tmp_path):
    run = write(
        tmp_path / "a", {"frozen": ("calibration", 3, 0.1), "mine": ("motion", 1, 0.0), "ours": ("motion", 2, 0.0)}
    )
    found = compare_runs(run, run, model_second="frozen", n_permutations=20)
    assert (found.first.model, found.second.model) == ("mine", "frozen")
    with pytest.raises(UserError, match="no model 'hers'") as caught:
        compare_runs(run, run, model_first="hers")
    assert "frozen, mine, ours" in str(caught.value)


def test_other_protocols_are_refused_with_what_differs(runs, tmp_path):
    other = FIXED.model_copy(update={"sampling": FIXED.sampling.model_copy(update={"fps": 30.0})})
    run = write(tmp_path / "c", {"bad": ("motion", 2, 0.6)}, [other])
    with pytest.raises(UserError, match=r"sampling\.fps: 15\.0 != 30\.0"):
        compare_runs(runs[0], run)
    paper = write(tmp_path / "d", {"bad": ("motion", 2, 0.6)}, [load_protocol("ma2d-paper/1")])
    with pytest.raises(UserError, match="share no protocol: ma2d-fixed/1 and ma2d-paper/1"):
        compare_runs(runs[0], paper)
    with pytest.raises(UserError, match=r"no scores of good under ma2d-paper/1\.\nIt has ma2d-fixed/1"):
        compare_runs(*runs, protocol="ma2d-paper/1")
    assert compare_runs(*runs, protocol=FIXED.hash, n_permutations=9).protocols[0].protocol == "ma2d-fixed/1"


def test_other_reference_rows_are_refused(runs, tmp_path):
    run = write(tmp_path / "c", {"bad": ("motion", 2, 0.6)}, reference_seed=7)
    with pytest.raises(UserError, match=f"reference rows of the two runs differ in {N_REFERENCE} clips"):
        compare_runs(runs[0], run)
    fewer = write(tmp_path / "d", {"bad": ("motion", 2, 0.6)}, edit=lambda rows: rows[1:])
    with pytest.raises(UserError, match="differ in 1 clips"):
        compare_runs(runs[0], fewer)

    def rounded(rows):
        return [
            dataclasses.replace(row, features={k: v * (1 + 1e-9) for k, v in row.features.items()})
            if row.role == "reference" else row for row in rows
        ]  # fmt: skip

    close = write(tmp_path / "e", {"bad": ("motion", 2, 0.6)}, edit=rounded)
    assert compare_runs(runs[0], close, n_permutations=9).protocols[0].n_pairs == N


def test_clips_without_a_partner_or_a_score_are_counted(runs, tmp_path):
    def edit(rows):
        mine = [row for row in rows if row.role == "generated"]
        changed = [
            *mine[2:-2],
            FOLDERS["without"](mine[-2], "no person"),
            dataclasses.replace(mine[-1], music_sha256="ff" * 32),
            dataclasses.replace(mine[0], clip_id="new"),
        ]
        return [row for row in rows if row.role == "reference"] + changed

    run = write(tmp_path / "c", {"bad": ("motion", 2, 0.6)}, edit=edit)
    found = compare_runs(runs[0], run, n_permutations=20).protocols[0]
    assert found.unpaired == {"only in the first run": 2, "only in the second run": 1, "other music": 1}
    assert found.n_pairs == N - 3
    for test in found.tests:
        assert test.n == N - 4
        assert test.unscored == {"second: no person": 1}


@pytest.mark.parametrize(("other", "shared"), [("a", 1), ("b", 0), ("", None)])
def test_music_that_both_runs_have_is_counted_by_file(tmp_path, other, shared):
    first = write(tmp_path / "a", {"good": ("motion", 1, 0.0)}, piece=lambda k: "a" * 64)
    second = write(tmp_path / "b", {"bad": ("motion", 2, 0.0)}, piece=lambda k: other * 64, name="more")
    part = compare_runs(first, second, n_permutations=9).protocols[0]
    assert (part.n_pairs, part.n_shared_music) == (0, shared)
    assert all(test.reason for test in part.tests)


def test_clips_of_one_piece_of_music_stay_together(tmp_path):
    def piece(k):
        return FOLDERS["sha"](str(k // 6))

    run = write(tmp_path / "a", {"x": ("motion", 1, 0.0), "y": ("motion", 2, 0.6)}, piece=piece)
    tests = by_name(compare_runs(run, run, model_second="y", n_permutations=200))
    assert {test.n_clusters for test in tests.values()} == {4}
    assert min(test.p_value for test in tests.values()) >= 2 / 2**4
    assert tests["bas"].n_permutations == 16


def test_windows_of_one_file_stay_together(tmp_path):
    def windows(rows):
        return [
            dataclasses.replace(row, clip_id=f"song{k % N // 8}@{k % 8}.000") if row.role == "generated" else row
            for k, row in enumerate(sorted(rows, key=lambda row: row.role == "reference"))
        ]

    run = write(tmp_path / "a", {"x": ("motion", 1, 0.0), "y": ("motion", 2, 0.6)}, edit=windows)
    tests = by_name(compare_runs(run, run, model_second="y", n_permutations=100))
    assert {(test.n, test.n_clusters) for test in tests.values()} == {(N, 3)}


def test_one_piece_of_music_gives_a_reason(tmp_path):
    run = write(tmp_path / "a", {"x": ("motion", 1, 0.0), "y": ("motion", 2, 0.6)}, piece=lambda k: "aa" * 32)
    found = compare_runs(run, run, model_second="y", n_permutations=20)
    assert {test.reason for test in found.protocols[0].tests} == {TOO_FEW}
    assert {test.p_value for test in found.protocols[0].tests} == {None}
    write_comparison(found, tmp_path / "out")


def test_nothing_scored_gives_a_reason(runs, tmp_path):
    def edit(rows):
        return [FOLDERS["without"](row) if row.role == "generated" else row for row in rows]

    run = write(tmp_path / "c", {"bad": ("motion", 2, 0.6)}, edit=edit)
    found = compare_runs(runs[0], run, n_permutations=20).protocols[0]
    assert {(test.n, test.reason, test.p_holm, test.verdict) for test in found.tests} == {(0, TOO_FEW, None, "open")}


def test_the_nearer_model_is_named_where_nearer_is_better(tmp_path):
    run = write(
        tmp_path / "a", {"near": ("motion", 1, 0.05), "above": ("motion", 2, 0.5), "below": ("motion", 3, -0.4)}
    )
    for far in ("above", "below"):
        tests = by_name(compare_runs(run, run, model_second=far, n_permutations=99))
        assert tests["bas"].better == "reference"
        assert tests["bas"].favours == "first"
        assert tests["bas"].reference == pytest.approx(0.5, abs=0.05)
        assert tests["bas"].difference * _turn(tests["bas"]) > 0
        assert tests["div_k"].reference is not None
        assert tests["fid_k"].reference is None


def test_published_variants_and_3d_protocols_work(tmp_path):
    """Sets standardised by themselves have no fast diversity, motions in space have other metrics."""
    protocols = [
        load_protocol(name).resolve(backend, REFERENCE)
        for name, backend in (("ma2d-paper/1", FOLDERS["BACKEND"]), ("motion3d-fixed/1", None))
    ]
    run = write(tmp_path / "a", {"x": ("motion", 1, 0.0), "y": ("motion", 2, 0.6)}, protocols)
    found = compare_runs(run, run, model_second="y", n_permutations=COSTLY_PERMUTATIONS + 100)
    assert {part.protocol for part in found.protocols} == {"ma2d-paper/1", "motion3d-fixed/1"}
    for part in found.protocols:
        tests = {test.name: test for test in part.tests}
        slow = part.protocol == "ma2d-paper/1"
        assert tests["fid_k"].n_permutations == COSTLY_PERMUTATIONS + 100
        assert tests["div_k"].n_permutations == COSTLY_PERMUTATIONS + 100 * (not slow)
        assert all(math.isfinite(test.p_value) for test in part.tests)
    assert {"fsr", "pfc"} <= {test.name for part in found.protocols for test in part.tests}
    write_comparison(found, tmp_path / "out")


def test_metrics_of_other_people(tmp_path):
    """A set metric with a standard error, one that cannot be computed, and one that fails."""
    from macebench.errors import Unscorable
    from macebench.registry import Column

    columns = (Column("compare_spread", "1", "higher"), Column("compare_spread_se"))

    @metric("compare_spread", columns=columns, feature="kinetic_2d", needs=("pose",))
    def spread(generated, reference, protocol):
        return {"compare_spread": float(generated.values.std()), "compare_spread_se": 0.1}

    @metric("compare_unscorable", feature="kinetic_2d", needs=("pose",))
    def unscorable(generated, reference, protocol):
        raise Unscorable("too cold")

    @metric("compare_fails", feature="kinetic_2d", needs=("pose",))
    def fails(generated, reference, protocol):
        raise ZeroDivisionError("oh")

    assert get_metric("compare_spread").compute is spread
    assert callable(unscorable)
    assert callable(fails)
    names = ("compare_spread", "compare_unscorable", "compare_fails")
    protocol = FIXED.model_copy(update={"metrics": names})
    run = write(tmp_path / "a", {"x": ("motion", 1, 0.0), "y": ("motion", 2, 0.6)}, [protocol])
    tests = by_name(compare_runs(run, run, model_second="y", n_permutations=50))
    assert list(tests) == list(names)
    assert tests["compare_spread"].better == "higher"
    assert tests["compare_spread"].p_holm == tests["compare_spread"].p_value > 0
    assert tests["compare_unscorable"].reason == "too cold"
    assert tests["compare_fails"].reason == "metric failed: ZeroDivisionError: oh"


def test_a_score_of_an_unknown_metric_is_shown_with_a_reason(runs):
    """As for who has the run of somebody else, and not the plug-in."""
    for folder in runs:
        text = (folder / "result.json").read_text("utf-8")
        result = json.loads(text)
        own = result["entries"][0]["scores"]
        own.append({**own[0], "name": "hip_height", "better": "higher"})
        (folder / "result.json").write_text(json.dumps(result), "utf-8")
    found = by_name(compare_runs(*runs, n_permutations=20))["hip_height"]
    assert found.reason == UNKNOWN_METRIC
    assert found.p_value is None
    assert found.better == "higher"


def test_files_are_the_same_for_the_same_seed(runs, tmp_path):
    found = [compare_runs(*runs, n_permutations=60, seed=seed) for seed in (1, 1, 2)]
    files = [[path.read_bytes() for path in write_comparison(item, tmp_path / str(k))] for k, item in enumerate(found)]
    assert files[0] == files[1]
    assert files[0][0] != files[2][0]
    assert files[0][2].startswith(b"\x89PNG")
    assert Comparison.model_validate_json(files[0][0]) == found[0]
    assert str(tmp_path) not in files[0][0].decode()
    table = list(csv.DictReader(io.StringIO(files[0][1].decode())))
    assert [row["name"] for row in table] == [test.name for test in found[0].protocols[0].tests]
    assert float(table[0]["p_holm"]) == found[0].protocols[0].tests[0].p_holm
    assert table[0]["low"] == ""
    assert as_csv(found[0]) == files[0][1].decode()


def test_odd_names_do_not_break_the_plot(tmp_path):
    name = "a $x^2 model " * 8
    run = write(tmp_path / "a", {name: ("motion", 1, 0.0), "y": ("motion", 2, 0.0)})
    write_comparison(compare_runs(run, run, model_second="y", n_permutations=9), tmp_path / "out")


def test_progress_reaches_the_end(runs):
    seen = []
    compare_runs(*runs, n_permutations=9, progress=lambda *step: seen.append(step))
    assert seen[-1][0] == "ma2d-fixed/1"
    assert seen[-1][1] == seen[-1][2] == len(seen)


def test_bad_input(runs, tmp_path):
    with pytest.raises(UserError, match="0 permutations"):
        compare_runs(*runs, n_permutations=0)
    with pytest.raises(UserError, match="no run folder"):
        compare_runs(runs[0], tmp_path / "nowhere")
    path = runs[1] / "result.json"
    content = json.loads(path.read_text("utf-8"))
    next(iter(content["protocols"].values()))["sampling"] = {"fps": -1}
    path.write_text(json.dumps(content), "utf-8")
    assert RunResult.read(runs[1])
    with pytest.raises(UserError, match=r"protocol: sampling\.fps"):
        compare_runs(*runs)


def contrast(**values):
    blank = {"name": "x", "metric": "x", "kind": "mean", "unit": "1", "better": "higher", "n": 9, "n_clusters": 9}
    return Contrast(**(blank | values))


def test_verdicts():
    assert contrast(p_holm=0.05, favours="second").verdict == "second"
    assert contrast(p_holm=0.051, favours="second").verdict == "open"
    assert contrast(favours="second").verdict == "open"
    assert contrast(p_holm=0.01).verdict == "differs"
    two_sided = {"better": "reference", "reference": 0.74, "favours": "second", "p_holm": 0.01}
    assert contrast(**two_sided, first=0.81, second=0.76).verdict == "second"
    assert contrast(**two_sided, first=0.81, second=0.68, low=0.08, high=0.18).verdict == "differs"  # 0.07, 0.06 away
    assert contrast(**two_sided, first=1.81, second=0.73, low=1.03, high=1.13).verdict == "second"  # 1.07, 0.01 away
    band = {"kind": "set", "null_low": -0.05, "null_high": 0.06}
    assert contrast(**two_sided | band, first=0.81, second=0.68).verdict == "differs"
    assert contrast(**two_sided | band, first=0.91, second=0.71).verdict == "second"
    assert _turn(contrast(better="lower")) == -1
    assert _turn(contrast(better="higher")) == 1
    assert _turn(contrast(better="reference", difference=-1.0, favours="first")) == -1
    assert _turn(contrast(better="reference", difference=-1.0, favours="second")) == 1


def with_lengths(rows):
    """Long clips hold together better in the first model, short ones in the second: weights turn the sign."""
    changed = []
    for row in rows:
        k = int(row.clip_id[-2:])
        pairs = 300.0 if k % 2 == 0 else 30.0
        long, short = {"good": (0.9, 0.6), "reference": (0.9, 0.6)}.get(row.model, (0.8, 0.75))
        value = (long if pairs > 100 else short) + 0.001 * math.sin(3 * k)
        values = row.values | {"subject_consistency": value, "subject_pairs": pairs + (row.model == "bad")}
        changed.append(dataclasses.replace(row, values=values))
    return changed


def test_a_weighted_score_is_compared_as_it_is_reported(tmp_path):
    appearance = load_protocol("vbench6-fixed/1").resolve(None, REFERENCE)
    models = {"good": ("video", 1, 0.0), "bad": ("video", 2, 0.0)}
    run = write(tmp_path / "a", models, [appearance], edit=with_lengths)
    tests = by_name(compare_runs(run, run, model_second="bad", n_permutations=2000))
    subject = tests["subject_consistency"]
    stored = {e.model.name: e.score("subject_consistency") for e in RunResult.read(run).entries}
    assert (subject.first, subject.second) == (stored["good"].value, stored["bad"].value)
    assert subject.reference == stored["good"].reference
    assert subject.first - subject.second > 0.03
    assert 0 < subject.low < subject.difference < subject.high
    assert (subject.verdict, subject.n) == ("first", N)
    assert {"subject_pairs", "background_pairs"}.isdisjoint(tests)
    assert sum(test.p_holm is not None for test in tests.values()) == len(tests) == 9
    tested = [test.p_value for test in tests.values()]
    np.testing.assert_allclose([test.p_holm for test in tests.values()], holm(tested))


def test_a_weighted_score_without_a_weight_is_counted(tmp_path):
    appearance = load_protocol("vbench6-fixed/1").resolve(None, REFERENCE)

    def edit(rows):
        first = next(row for row in rows if row.model == "bad")
        first.values["subject_pairs"] = math.nan
        return rows

    run = write(tmp_path / "a", {"good": ("video", 1, 0.0), "bad": ("video", 2, 0.0)}, [appearance], edit=edit)
    test = by_name(compare_runs(run, run, model_second="bad", n_permutations=20))["subject_consistency"]
    assert (test.n, test.unscored) == (N - 1, {"second: value has no weight": 1})


def test_an_extrapolated_distance_below_0_names_no_better_model():
    blank = Contrast(name="fid_infinity_k", metric="fid_infinity_k_2d", kind="set", unit="1", better="lower", n=9,
                     n_clusters=9)  # fmt: skip
    below = _judged(blank.model_copy(update={"first": -287.0, "second": 464.0, "p_holm": 0.001}), math.nan)
    assert (below.favours, below.verdict, _better(below, ["a", "b"])) == (None, "differs", "below 0: none can be named")
    above = _judged(blank.model_copy(update={"first": 2.0, "second": 4.0, "p_holm": 0.001}), math.nan)
    assert (above.favours, above.verdict) == ("first", "first")


def test_clips_of_16_frames_are_compared_one_by_one_and_stay_with_their_video(tmp_path):
    protocol = load_protocol("animation/1").resolve(None, REFERENCE)

    def edit(rows):
        changed = []
        for row in rows:
            k = int(row.clip_id[-2:])
            rng = np.random.default_rng([k, len(row.model)])
            pieces = k % 3 + 1 + (row.model == "worse" and k == 5)
            shift = 0.5 if row.model == "worse" else 0.0
            features = {"i3d_16": rng.normal(size=400 * pieces) + shift}
            changed.append(dataclasses.replace(row, features=features))
        return changed

    models = {"good": ("video", 1, 0.0), "worse": ("video", 2, 0.0)}
    run = write(tmp_path / "a", models, [protocol], edit=edit)
    tests = by_name(compare_runs(run, run, model_second="worse", n_permutations=9))
    fvd, stored = tests["fvd"], RunResult.read(run).entries
    assert (fvd.n, fvd.n_clusters) == (2 * N - 3, N - 1)
    assert fvd.unscored == {"second: another number of features than the first": 1}
    assert fvd.first < fvd.second
    assert fvd.second == pytest.approx(stored[1].score("fvd").value, rel=0.1)
    assert "fewer than 2000 clips of 16 frames" in tests["fvd_infinity"].reason
    assert stored[1].score("fvd_infinity").value is None
