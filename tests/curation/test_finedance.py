"""FineDance's folders, splits and labels."""

import json

import numpy as np
import pytest

from macebench.curation.finedance import (
    GENRES,
    INTRO_S,
    canonical_genre,
    effective_counts,
    finedance_sources,
    ignored,
    official_split,
)
from macebench.errors import UserError

SPELLINGS = {
    "Breaking": "Breaking", "Popping": "Popping", "Locking": "Locking", "Hiphop": "Hiphop", "Urban": "Urban",
    "Jazz": "Jazz", "jazz": "Jazz", "Tai": "Dai", "Dai": "Dai", "Uighur": "Wei", "Wei": "Wei", "Hmong": "Miao",
    "Miao": "Miao", "HanTang": "HanTang", "ShenYun": "ShenYun", "Kun": "Kun", "DunHuang": "DunHuang",
    "Korean": "Korean", "Choreography": "Choreography", "Chinese": "Chinese",
}  # fmt: skip


@pytest.fixture
def root(tmp_path):
    """Songs 001 (whole), 002 (no music), 003 (no label), 004 (label broken), 005 (no motion), 116 (ignored)."""
    for folder in ("label_json", "motion", "music_wav", "music_npy"):
        (tmp_path / folder).mkdir()
    for song in ("001", "002", "003", "004", "116"):
        np.save(tmp_path / "motion" / f"{song}.npy", np.zeros((2, 315), np.float32))
    for song in ("001", "003", "004", "005", "116"):
        (tmp_path / "music_wav" / f"{song}.wav").write_bytes(b"RIFF")
    for song in ("001", "002", "005", "116"):
        label = {"name": "Song", "style1": "Folk", "style2": "Uighur"}
        (tmp_path / "label_json" / f"{song}.json").write_text(json.dumps(label), "utf-8")
    (tmp_path / "label_json" / "004.json").write_text("{", "utf-8")
    (tmp_path / "motion" / "M001.npy").write_bytes(b"a mirrored one")
    return tmp_path


def test_what_is_missing_is_a_reason(root):
    found = {source.name: source.refused for source in finedance_sources(root)}
    assert found == {
        "001": "", "002": "no music", "003": "no label", "004": "label not usable", "005": "no motion",
        "116": "on the ignore list",
    }  # fmt: skip


def test_a_whole_song(root):
    source = next(finedance_sources(root))
    assert (source.genre, source.genre_raw, source.style, source.title) == ("Wei", "Uighur", "Folk", "Song")
    assert (source.pairing, source.split, source.music_id) == ("original", "train", "finedance-001")
    assert "non-commercial" in source.licence
    assert source.motion == root / "motion" / "001.npy"
    assert source.music == root / "music_wav" / "001.wav"


@pytest.mark.parametrize("text", ["[]", '{"style2": 3}', '{"style2": " "}', '{"style1": "Folk"}', "\u0000", "[" * 5000])
def test_labels_that_name_no_genre_are_not_usable(root, text):
    (root / "label_json" / "001.json").write_text(text, "utf-8")
    assert next(finedance_sources(root)).refused == "label not usable"


def test_the_twenty_spellings_of_the_sixteen_genres():
    assert {text: canonical_genre(text) for text in SPELLINGS} == SPELLINGS
    assert set(SPELLINGS.values()) == set(GENRES)
    assert len(GENRES) == 16
    assert canonical_genre("Ballet ") == "Ballet"
    assert canonical_genre(" ") == "unknown"


def test_official_lists_have_the_published_lengths():
    songs = [f"{number:03d}" for number in range(1, 212)]
    for split, counts in (("cross_genre", (191, 0, 20)), ("cross_dancer", (181, 12, 18))):
        given = [official_split(song, split) for song in songs]
        assert tuple(given.count(name) for name in ("train", "val", "test")) == counts
        assert tuple(effective_counts(split, "none").values()) == counts


def test_songs_120_and_130_are_test_songs_and_ignored():
    assert official_split("120", "cross_genre") == official_split("130", "cross_genre") == "test"
    assert {"120", "130"} <= ignored("cross_genre", "finedance")
    assert {"120", "130"} & ignored("cross_genre", "lodge") == {"120"}
    assert effective_counts("cross_genre", "finedance") == {"train": 183, "val": 0, "test": 18}
    assert effective_counts("cross_genre", "lodge") == {"train": 183, "val": 0, "test": 19}
    assert effective_counts("cross_dancer", "finedance") == {"train": 175, "val": 12, "test": 17}
    assert effective_counts("cross_dancer", "lodge")["val"] == 8


def test_intros_are_cut_unless_told_otherwise(root):
    (root / "label_json" / "004.json").write_text('{"style2": "Kun"}', "utf-8")
    starts = {source.name: source.start_s for source in finedance_sources(root)}
    assert starts["004"] == 8.0
    assert starts["001"] == 0.0
    assert INTRO_S["010"] * 30 == pytest.approx(3)
    assert not any(source.start_s for source in finedance_sources(root, cut_intros=False))


def test_what_is_no_finedance_folder(tmp_path):
    with pytest.raises(UserError, match="no folder motion"):
        finedance_sources(tmp_path)
    (tmp_path / "motion").mkdir()
    with pytest.raises(UserError, match="holds no song"):
        finedance_sources(tmp_path)
    with pytest.raises(UserError, match="no split 'genre'"):
        finedance_sources(tmp_path, split="genre")
    with pytest.raises(UserError, match="ignore list 'all'"):
        finedance_sources(tmp_path, ignore="all")
