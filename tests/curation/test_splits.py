import itertools
import random
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from macebench.curation.splits import (
    ClipInfo,
    Component,
    SplitConfig,
    assign_splits,
    find_components,
    plan_splits,
    read_official,
)
from macebench.errors import UserError

GENRES = ("ballet", "folk", "house", "street", "waltz")


def clips_of(n_sources, *, per_source=(1, 12), seed=0, genres=GENRES, shared_music=0.0):
    rng = random.Random(seed)
    clips = []
    for s in range(n_sources):
        music = f"song{rng.randrange(n_sources)}" if rng.random() < shared_music else None
        genre = rng.choice(genres)
        for k in range(rng.randint(*per_source)):
            clips.append(ClipInfo(f"{s:05d}-{k:03d}", f"source{s}", music, genre=genre))
    return clips


small = st.builds(
    lambda s, m, p, g, k: ClipInfo(f"c{k}", f"s{s}", None if m > 8 else f"m{m}", None if p > 6 else f"p{p}", f"g{g}"),
    st.integers(0, 12), st.integers(0, 12), st.integers(0, 12), st.integers(0, 3), st.integers(0, 10**6),
)  # fmt: skip
worlds = st.lists(small, min_size=1, max_size=40, unique_by=lambda clip: clip.clip_id)


@given(worlds, st.integers(0, 3), st.floats(0, 0.5), st.floats(0, 0.5))
def test_nothing_is_in_two_splits_and_every_clip_is_in_one(clips, seed, val, test):
    splits = assign_splits(clips, SplitConfig(val_share=val, test_share=test, seed=seed))
    assert sorted(splits) == sorted(clip.clip_id for clip in clips)
    for read in (lambda c: c.source_id, lambda c: c.music_id, lambda c: c.performer):
        places = defaultdict(set)
        for clip in clips:
            places[read(clip)].add(splits[clip.clip_id])
        places.pop(None, None)
        assert all(len(found) == 1 for found in places.values())
    assert "train" in splits.values()


@given(worlds, st.randoms(use_true_random=False))
def test_the_order_of_the_clips_does_not_matter(clips, rng):
    config = SplitConfig(val_share=0.2, test_share=0.3)
    shuffled = list(clips)
    rng.shuffle(shuffled)
    assert assign_splits(shuffled, config) == assign_splits(clips, config)


@given(st.lists(st.integers(1, 9), min_size=2, max_size=9), st.integers(1, 30))
def test_the_size_is_as_near_as_the_components_allow(sizes, wish):
    clips = [ClipInfo(f"{s}-{k}", f"s{s}") for s, n in enumerate(sizes) for k in range(n)]
    counts = plan_splits(clips, SplitConfig(test_size=wish, val_share=0)).counts
    rest = sorted(sizes)[:-1]  # the largest stays in train
    possible = {sum(some) for n in range(len(rest) + 1) for some in itertools.combinations(rest, n)}
    assert abs(counts["test"] - wish) == min(abs(total - wish) for total in possible)


@pytest.mark.parametrize("seed", range(3))
def test_five_hundred_test_clips_with_balanced_genres(seed):
    plan = plan_splits(clips_of(800, seed=seed), SplitConfig(test_size=500, seed=seed, genre_tolerance=0.02))
    assert plan.counts["test"] == 500
    assert plan.notes == ()
    assert all(abs(here - everywhere) <= 0.02 for everywhere, here in plan.genre_shares.values())


def test_a_rare_genre_gets_its_share():
    clips = clips_of(300, per_source=(10, 10), genres=("common",)) + [
        ClipInfo(f"rare{k}", f"rare{k // 5}", genre="rare") for k in range(300)
    ]
    plan = plan_splits(clips, SplitConfig(test_size=330))
    test = Counter(name.startswith("rare") for name, split in plan.splits.items() if split == "test")
    assert test[True] == pytest.approx(30, abs=6)


def test_large_sets_are_filled_by_rank_and_then_exactly(monkeypatch):
    monkeypatch.setattr("macebench.curation.splits._EXACT_BITS", 1000)
    plan = plan_splits(clips_of(2000, seed=5), SplitConfig(test_size=1001, val_share=0.1))
    assert plan.counts["test"] == 1001
    assert plan.counts["val"] == round(0.1 * len(plan.splits))


@pytest.mark.parametrize("seed", range(3))
def test_new_sources_move_few_old_clips(seed):
    old = clips_of(800, seed=seed)
    new = [c for c in clips_of(880, seed=seed + 50) if int(c.source_id[6:]) >= 800]
    config = SplitConfig(test_size=500, val_share=0.05)
    before, after = assign_splits(old, config), assign_splits([*old, *new], config)
    moved = sum(before[name] != after[name] for name in before)
    # every new test clip pushes an old one out; little else may move
    pushed = sum(after[clip.clip_id] != "train" for clip in new)
    assert moved < 2.2 * pushed
    assert moved < 0.035 * len(old)
    stranger = {name: random.Random(name).choice(("train", "test")) for name in before}
    assert sum(before[name] != stranger[name] for name in before) > 0.3 * len(old)


def test_official_splits_are_kept_and_take_their_component_along(tmp_path):
    clips = [
        ClipInfo("a", "s1", "m1", official_split="test"), ClipInfo("b", "s2", "m1"), ClipInfo("c", "s3", "m2"),
        ClipInfo("d", "s4"), ClipInfo("e", "s5", "m3"),
    ]  # fmt: skip
    listing = tmp_path / "official.txt"
    listing.write_text("# published\nm2, val\n\ns4 train  # source\n")
    plan = plan_splits(clips, SplitConfig(test_size=1, val_share=0, official=str(listing)))
    assert dict(plan.splits) == {"a": "test", "b": "test", "c": "val", "d": "train", "e": "train"}
    assert any("official lists put 2 there" in note for note in plan.notes)


def test_contradicting_official_splits_are_refused():
    clips = [ClipInfo("a", "s", performer="p", official_split="test"), ClipInfo("b", "t", performer="p",
                                                                                official_split="train")]  # fmt: skip
    with pytest.raises(UserError, match=r"clip a is test|clip b is train") as caught:
        assign_splits(clips)
    assert "splits.by" in caught.value.hint
    assert assign_splits(clips, SplitConfig(by=("source", "music"))) == {"a": "test", "b": "train"}


@pytest.mark.parametrize("line", ["a", "a b c", "a tset", "a train\na test"])
def test_a_wrong_official_file_names_the_line(tmp_path, line):
    path = tmp_path / "official.txt"
    path.write_text(f"# head\n{line}\n")
    with pytest.raises(UserError, match=r"official\.txt:[23]: "):
        read_official(path)


def test_what_is_impossible_is_said():
    together = [ClipInfo(f"c{k}", f"s{k}", "one song") for k in range(10)]
    with pytest.raises(UserError, match="all 10 clips hang together by source, music, performer"):
        assign_splits(together, SplitConfig(test_size=5))
    assert set(assign_splits(together).values()) == {"train"}
    (note, _) = plan_splits(together, SplitConfig(test_share=0.3, val_share=0.2)).notes
    assert note == (
        "test has 0 clips, the settings ask for 3: all 10 clips share a source, a piece of music or a performer, "
        "directly or through others, and stay together in train."
    )
    assert plan_splits([ClipInfo("a", "s")], SplitConfig()).splits == {"a": "train"}


def test_a_note_says_why_a_split_has_another_size():
    official = [ClipInfo(f"c{k}", f"s{k}", official_split="test" if k < 2 else "train") for k in range(6)]
    (note,) = plan_splits(official, SplitConfig(test_share=0.5, val_share=0)).notes
    assert note.startswith("test has 2 clips, the settings ask for 3: no other clip could be chosen.")
    (note,) = plan_splits(official, SplitConfig(test_share=0.1, val_share=0)).notes
    assert note == "test has 2 clips, the settings ask for 1: official lists put 2 there, and official splits are kept."
    songs = [ClipInfo(f"c{k:02d}", f"s{k}", f"song{k // 4}") for k in range(20)]
    (note,) = plan_splits(songs, SplitConfig(test_size=6, val_share=0, by=("source", "music"))).notes
    assert note == (
        "test has 4 clips, the settings ask for 6: clips that share a source or a piece of music always stay in one "
        "split together. 4 such groups of 4 clips each were left to choose from, and no sum of whole groups comes "
        "nearer to 6."
    )


def test_a_genre_out_of_balance_is_noted():
    clips = [ClipInfo(f"a{k}", "s0", genre="a") for k in range(50)]
    clips += [ClipInfo(f"b{k}", f"t{k}", genre="b") for k in range(50)]
    notes = plan_splits(clips, SplitConfig(test_size=20, val_share=0)).notes
    assert "genre a is 0.0% of test and 50.0% of all clips." in notes


def test_empty_names_join_nothing():
    clips = [ClipInfo(f"c{k}", f"s{k}", "", "") for k in range(4)]
    assert len(find_components(clips, SplitConfig())) == 4


def test_wrong_input():
    with pytest.raises(UserError, match="'a' occurs twice"):
        assign_splits([ClipInfo("a", "s"), ClipInfo("a", "t")])
    with pytest.raises(UserError, match="'tset'"):
        assign_splits([ClipInfo("a", "s", official_split="tset")])
    for wrong in ({"test_size": -1}, {"val_share": 2.0}, {"by": ("face",)}):
        with pytest.raises(UserError, match=f"splits.{next(iter(wrong))}"):
            SplitConfig(**wrong)


def test_components_are_never_searched_for_one_by_one(monkeypatch):
    compared = []
    monkeypatch.setattr(Component, "__eq__", lambda self, other: compared.append(1) or self is other)
    clips = [ClipInfo(f"{k:05d}", f"s{k}", genre=f"g{k % 7}") for k in range(3000)]
    plan = plan_splits(clips, SplitConfig(test_size=300, val_share=0.1))
    assert plan.counts == {"train": 2400, "val": 300, "test": 300}
    assert not compared
