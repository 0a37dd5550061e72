import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from macebench.errors import UserError
from macebench.report import write_report
from macebench.report.numbers import short
from macebench.tables import file_sha256

HOSTILE = ("<script>alert(1)</script>", "../../etc/passwd", "=cmd()", '" onload="alert(1)', "</style><b>", "{{7*7}}")
VOID = {"meta", "br", "wbr", "input", "hr", "img", "link", "col"}


class Page(HTMLParser):
    """Collects elements and checks that each one is closed."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.stack, self.content = [], [], {}
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack:
            self.content.setdefault(self.stack[-1], []).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(data for tag, items in self.content.items() if tag not in ("style", "script") for data in items)


def report(run, **options):
    return Page(write_report(run, **options).read_text("utf-8"))


def policy_of(page):
    (found,) = [item["content"] for item in page.all("meta") if item.get("http-equiv") == "Content-Security-Policy"]
    return dict(part.strip().split(" ", 1) for part in found.split(";"))


def test_the_policy_allows_this_style_and_script_and_nothing_else(make_run, tmp_path):
    page = report(make_run(tmp_path / "run"))
    policy = policy_of(page)
    assert policy["default-src"] == "'none'"
    assert policy["img-src"] == "data:"
    assert (policy["base-uri"], policy["form-action"]) == ("'none'", "'none'")
    for tag in ("style", "script"):
        (content,) = page.content[tag]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert set(policy) == {"default-src", "img-src", "style-src", "script-src", "base-uri", "form-action"}


def test_nothing_on_the_page_comes_from_outside_or_runs_inline(make_run, tmp_path):
    page = report(make_run(tmp_path / "run", lost=("a",)))
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    for tag, attributes in page.elements:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in {"style", "src", "srcset", "action"}
            if name == "href":
                assert value[1:] in ids or value.startswith("data:image/jpeg;base64,")
    assert "url(" not in page.content["style"][0]
    assert "@import" not in page.content["style"][0]


def test_hostile_names_are_text(make_run, tmp_path):
    models = ((HOSTILE[0], "external"), *((name, "calibration") for name in HOSTILE[1:]))
    names = (*HOSTILE, "a\x00b", "\u202ecba")
    page = report(make_run(tmp_path / "run", models=models, names=names, lost=HOSTILE[:2]))
    assert len(page.all("script")) == 1
    assert len(page.all("style")) == 1
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    for name in HOSTILE:
        assert name in page.text
    assert "ref <b>" in page.text
    assert "\u202e" not in page.text


def test_equal_runs_give_equal_bytes(make_run, tmp_path):
    texts = {write_report(make_run(tmp_path / name / "run")).read_bytes() for name in ("one", "two")}
    assert len(texts) == 1


def test_the_first_screen_says_what_was_scored_and_how(make_run, tmp_path):
    text = report(make_run(tmp_path / "run", lost=("b",))).text
    for part in (
        "ma2d-fixed/1",
        "ref <b> · n 6",
        "precomputed · files",
        "1 of 5 clips lack at least one value: no person (1)",
    ):
        assert part in text
    assert text.index("1 of 5 clips lack") < text.index("not scored: no person")


def test_each_score_has_n_unscored_and_direction(make_run, tmp_path):
    source = write_report(make_run(tmp_path / "run", lost=("b",))).read_text("utf-8")
    table = source[source.index('<table class="summary">') : source.index("</table>")]
    assert table.count("n 4 ") == 12 * 2
    assert table.count("1 unscored") == 12 * 2
    assert re.search(r'fid_k <span class="arrow" title="lower is better">↓', table)
    assert re.findall(r'<tbody class="(\w+)"', table) == ["evaluated", "calibration", "reference"]


def summary_of(source):
    return source[source.index('<table class="summary">') : source.index("</table>")]


def rows_of(table):
    """Cells of each row of a summary table by the row's class."""
    bodies = re.findall(r'<tbody class="(\w+)">(.*?)</tbody>', table, re.DOTALL)
    return {kind: re.findall(r"<td[^>]*>(.*?)</td>", body) for kind, body in bodies}


def test_best_is_the_lowest_the_highest_or_the_nearest_to_the_reference(make_run, tmp_path):
    run, other = make_run(tmp_path / "run"), make_run(tmp_path / "older", shift=0.25)
    rows = rows_of(summary_of(write_report(run, against=other).read_text("utf-8")))
    mine, theirs = (
        {
            score["name"]: score
            for score in json.loads((path / "result.json").read_text("utf-8"))["entries"][0]["scores"]
        }
        for path in (run, other)
    )

    def cost(score):
        if score["better"] == "reference":
            return abs(score["value"] - score["reference"])
        return -score["value"] if score["better"] == "higher" else score["value"]

    for index, name in enumerate(mine):
        best = [cost(mine[name]) <= cost(theirs[name]), cost(theirs[name]) <= cost(mine[name])]
        assert ['class="best"' in rows[kind][index] for kind in ("evaluated", "against")] == best, name
    assert not any('class="best"' in cell for kind in ("reference", "calibration") for cell in rows[kind])


def test_a_calibration_row_is_never_best_and_one_model_alone_neither(make_run, tmp_path):
    table = summary_of(write_report(make_run(tmp_path / "run")).read_text("utf-8"))
    assert 'class="calibration"' in table
    assert 'class="best"' not in table


def test_where_nearer_is_better_the_reference_and_the_gap_are_shown(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    table = summary_of(write_report(run).read_text("utf-8"))
    entry = json.loads((run / "result.json").read_text("utf-8"))["entries"][0]
    aimed = [score for score in entry["scores"] if score["better"] == "reference"]
    assert len(aimed) == 10
    cells = rows_of(table)["evaluated"]
    for score in aimed:
        assert f"ref {short(score['reference'])}" in table
        cell = cells[[item["name"] for item in entry["scores"]].index(score["name"])]
        assert f"gap {short(abs(score['value'] - score['reference']))}" in cell
    assert "gap" not in cells[0]
    assert not any("gap" in cell for cell in rows_of(table)["reference"])


def test_a_mean_has_an_interval_and_a_set_has_none_and_the_page_says_why(make_run, tmp_path):
    from macebench.metrics.statistics import bootstrap_mean

    page = write_report(make_run(tmp_path / "run")).read_text("utf-8")
    cells = rows_of(summary_of(page))["evaluated"]
    values = [0.5 + 0.1 * math.cos(k) for k in range(5)]
    interval = bootstrap_mean(values, clusters=range(5), seed=0)
    assert f"{short(interval.low)} … {short(interval.high)}" in cells[4]
    assert "95 % bootstrap interval of the mean over 5 clusters" in cells[4]
    assert sum("…" in cell for cell in cells) == 8
    assert all("n 5" in cell for cell in cells[:4])
    assert "Fréchet distances and diversity have no interval" in page
    assert page.count('class="whisker"') == 8 * 2


def test_columns_stand_in_groups(make_run, tmp_path):
    run = make_run(tmp_path / "run", protocols=("motion3d-fixed/1",))
    table = summary_of(write_report(run).read_text("utf-8"))
    bands = re.findall(r'colspan="(\d+)" class="group">(\w+)<', table)
    assert bands == [("6", "distances"), ("2", "diversity"), ("7", "beats"), ("7", "feet"), ("2", "activity")]
    assert len(rows_of(table)["evaluated"]) == 24
    assert "± " in rows_of(table)["evaluated"][2]


def test_a_row_that_barely_moves_is_said_and_never_best(make_run, tmp_path):
    run = make_run(tmp_path / "run", protocols=("motion3d-fixed/1",), still=("mine",))
    source = write_report(run).read_text("utf-8")
    text = Page(source).text
    assert "Too little dance." in text
    assert "mine moves in 10 % of its frames (reference 95 %)" in text
    cells = rows_of(summary_of(source))["evaluated"]
    assert not any('class="best"' in cell for cell in cells)
    assert "barely moves" in cells[0]
    assert "barely moves" not in cells[8]
    moving = write_report(make_run(tmp_path / "moving", protocols=("motion3d-fixed/1",))).read_text("utf-8")
    assert "barely moves" not in summary_of(moving)


def test_a_calibration_row_that_barely_moves_is_no_warning(make_run, tmp_path):
    run = make_run(tmp_path / "run", protocols=("motion3d-fixed/1",), still=("frozen",))
    source = write_report(run).read_text("utf-8")
    assert "Too little dance." not in source
    assert "barely moves" in summary_of(source)


def write_copies(run, rows):
    import pandas as pd

    digest = next(iter(json.loads((run / "result.json").read_text("utf-8"))["protocols"]))
    names = ["model", "protocol_hash", "clip_id", "nearest_clip_id", "distance", "ratio", "exact", "near"]
    table = pd.DataFrame([("mine", digest, *row) for row in rows], columns=names)
    table.to_parquet(run / "contamination.parquet")


def test_copies_of_training_clips_are_counted_and_the_worst_come_first(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    assert "Copies of training clips" not in report(run).text
    write_copies(run, [
        ("a", "t1", 3.0, 1.1, False, False), ("b", "<t2>", 0.0, 0.0, True, True), ("c", "t3", 0.1, 0.05, False, True),
        ("d", "t4", 2.0, 0.9, False, False),
    ])  # fmt: skip
    source = write_report(run).read_text("utf-8")
    assert "mine: 2 of 4 clips near a training clip, 1 exact." in source
    table = source[source.index('class="reasons copies"') :]
    places = [table.index(f"<td>{name}</td>") for name in ("&lt;t2&gt;", "t3", "t4", "t1")]
    assert places == sorted(places)


def test_a_broken_table_of_copies_is_a_user_error(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    (run / "contamination.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"contamination\.parquet"):
        write_report(run)


def motion_run(make_run, folder, tmp_path, **options):
    """A run of motions whose clips `a` and `b` are files that exist."""
    from macebench.motion import write_motion
    from macebench.skeleton import forward_kinematics
    from macebench.types import Motion

    turns = np.zeros((150, 24, 3))
    turns[:, 16, 2] = np.linspace(0, 1.5, 150)
    motion = Motion(30.0, forward_kinematics(turns, np.tile([0.0, 0.95, 0.0], (150, 1))), turns)
    paths = {name: tmp_path / f"{name}.npz" for name in ("a", "b")}
    for path in paths.values():
        write_motion(path, motion)
    videos = {name: (path, file_sha256(path)) for name, path in paths.items()}
    return make_run(folder, protocols=("motion3d-fixed/1",), videos=videos, **options)


def test_motions_are_shown_as_figures_and_their_speed_in_metres(make_run, tmp_path):
    page = report(motion_run(make_run, tmp_path / "run", tmp_path))
    figures = [item for item in page.all("svg") if item.get("aria-label", "").startswith("Figure at ")]
    assert len(figures) == 2 * 8
    assert page.text.count("m/s") >= 5
    assert "px/s" not in page.text
    assert page.all("input") == []
    assert "the run does not say where the video is" in page.text


def test_protocols_are_not_compared_with_each_other(make_run, tmp_path):
    text = report(make_run(tmp_path / "run", protocols=("ma2d-fixed/1", "ma2d-paper/1"))).text
    assert "Numbers of this section do not compare with those of ma2d-paper/1" in text
    assert "do not compare" not in report(make_run(tmp_path / "one")).text


def test_known_defects_reasons_and_notes_are_there(make_run, tmp_path):
    text = report(make_run(tmp_path / "run", lost=("b",))).text
    assert "FID is biased upwards at small n" in text
    assert "no person" in text
    assert "What it changes" in text


def test_the_table_of_clips_can_be_sorted_by_its_headers(make_run, tmp_path):
    page = report(make_run(tmp_path / "run", lost=("b",)))
    heads = [item for item in page.all("th") if "aria-sort" in item]
    assert heads[0]["aria-sort"] == "ascending"
    assert {head["aria-sort"] for head in heads[1:]} == {"none"}
    assert len(heads) == 3 + 8 + 2
    assert page.all("button") == [{"type": "button"}] * len(heads)
    rows = [item["data-keys"] for item in page.all("tr") if "data-keys" in item]
    assert len(rows) == 5
    keys = [json.loads(row) for row in rows]
    assert {len(key) for key in keys} == {len(heads)}
    assert keys[0][:2] == [1, "b"]
    assert keys[0][3:] == [None] * 10
    assert [key[0] for key in keys] == [1, 2, 3, 4, 5]
    assert "localeCompare" in page.content["script"][0]


def test_a_value_that_is_missing_says_why(make_run, tmp_path):
    text = report(make_run(tmp_path / "run", lost=("b",))).text
    assert "not scored: no person" in text
    assert "nan" not in re.findall(r"\w+", text)


def test_only_the_worst_clips_get_pictures_and_the_page_says_so(make_run, tmp_path):
    page = report(make_run(tmp_path / "run", lost=("e", "b")), max_clips=2)
    assert "The 2 worst of 5 clips." in page.text
    assert [item["id"] for item in page.all("article")] == ["clip-1", "clip-2"]
    links = [item["href"] for item in page.all("a") if item["href"].startswith("#clip-")]
    assert links == ["#clip-1", "#clip-2"]


def test_missing_videos_are_said_for_each_clip(make_run, tmp_path):
    text = report(make_run(tmp_path / "run")).text
    assert text.count("the run does not say where the video is") == 5


def test_pictures_come_from_the_videos(make_run, tmp_path, tiny_world):
    videos = {
        f"clip{k}": (path, file_sha256(path)) for k, path in enumerate(sorted(tiny_world.videos.glob("*.mp4"))[:2])
    }
    run = make_run(tmp_path / "run", names=tuple(videos), videos=videos)
    page = report(run, out=tmp_path / "elsewhere" / "page.html")
    # The rows say 5 seconds, the videos end after 3: two of six pictures would lie beyond the end.
    assert len(page.all("image")) == 2 * 4
    assert all(item["href"].startswith("data:image/jpeg;base64,/9j/") for item in page.all("image"))


def test_motion_speed_is_drawn_for_each_clip_with_a_curve(make_run, tmp_path):
    page = report(make_run(tmp_path / "run", lost=("a",)))
    labels = [item["aria-label"] for item in page.all("svg") if item.get("class") == "plot"]
    assert labels == ["Motion speed over 3.9 seconds, 3 music beats, 2 motion beats"] * 4


def test_each_score_has_bars_for_each_model(make_run, tmp_path):
    page = report(make_run(tmp_path / "run"))
    labels = [item["aria-label"] for item in page.all("svg") if item.get("class") == "bars"]
    assert len(labels) == 12
    assert re.fullmatch(r"fid_k: mine [\d.]+, frozen [\d.]+", labels[0])
    motions = report(make_run(tmp_path / "motions", protocols=("motion3d-fixed/1",)))
    assert len([item for item in motions.all("svg") if item.get("class") == "bars"]) == 22


def test_two_protocols_have_two_sections_and_one_card_for_each_clip(make_run, tmp_path):
    page = report(make_run(tmp_path / "run", protocols=("ma2d-fixed/1", "ma2d-paper/1")))
    assert [item.get("id") for item in page.all("section")] == ["summary-1", "summary-2", "clips", "environment"]
    assert len(page.all("article")) == 5


def test_an_empty_run_has_a_page(make_run, tmp_path):
    text = report(make_run(tmp_path / "run", models=(), names=())).text
    assert "Empty run" in text
    assert "No clip was evaluated." in text


def test_a_run_without_any_score_has_a_page(make_run, tmp_path):
    page = report(make_run(tmp_path / "run", lost=("a", "b", "c", "d", "e")))
    assert "5 of 5 clips lack at least one value" in page.text
    assert "best" not in {item.get("class") for item in page.all("strong")}


def test_a_changed_run_is_warned_of(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    source = (run / "result.json").read_text("utf-8")
    (run / "result.json").write_text(re.sub(r'"clips_sha256": ?"\w+"', '"clips_sha256": "00"', source), "utf-8")
    assert "This run folder was changed after it was written." in report(run).text


def test_another_run_stands_beside_with_the_difference(make_run, tmp_path):
    run, other = make_run(tmp_path / "run"), make_run(tmp_path / "older", shift=0.25)
    text = report(run, against=other).text
    assert "mine in older" in text
    assert "Δ -" in text


def test_a_folder_that_is_no_run_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="is no run folder"):
        write_report(tmp_path)


def test_poses_are_drawn_when_the_video_is_gone(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    (run / "poses").mkdir()
    keypoints = np.tile(np.linspace(5, 40, 25)[None, :, None], (9, 1, 2))
    np.savez(run / "poses" / "a.npz", keypoints=keypoints, confidence=np.ones((9, 25)), times_s=np.arange(9) / 2,
             width=64, height=48, skeleton="coco25")  # fmt: skip
    page = report(run)
    assert len([item for item in page.all("path") if item.get("class") == "bone middle"]) == 6


def test_incomplete_clips_are_counted_once_in_each_row(make_run, tmp_path):
    source = write_report(make_run(tmp_path / "run", lost=("b",))).read_text("utf-8")
    table = source[source.index('<table class="summary">') : source.index("</table>")]
    assert table.count("1 incomplete") == 2


def test_what_weakens_the_scores_is_said_at_the_head(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    assert "with care" not in report(run).text
    result = json.loads((run / "result.json").read_text("utf-8"))
    result |= {"reference_unscored": dict.fromkeys(result["protocols"], 2), "n_shared_clips": 3}
    (run / "result.json").write_text(json.dumps(result), "utf-8")
    text = report(run).text
    assert "ma2d-fixed/1: 2 of 6 reference clips lack a feature or value" in text
    assert "3 evaluated clips with the same bytes as a clip of the reference set" in text
