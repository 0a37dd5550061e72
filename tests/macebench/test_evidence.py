from pathlib import Path

import pytest

from macebench.evidence import EvidenceSet, clip_key
from macebench.types import Clip, Evidence, Missing


def clips(n):
    return [Clip(f"c{i}", Path(f"c{i}.npz"), f"{i:064d}") for i in range(n)]


def made(calls):
    def make(clip):
        calls.append(clip.clip_id)
        nothing = Missing("nothing")
        return Evidence(clip, 0.0, nothing, nothing, nothing)

    return make


def test_evidence_is_made_when_asked_and_only_the_last_few_are_kept():
    calls = []
    evidence = EvidenceSet(clips(20), made(calls))
    assert len(evidence) == 20
    assert calls == []
    assert evidence[3].clip.clip_id == evidence[3].clip.clip_id == "c3"
    assert calls == ["c3"]
    assert [item.clip.clip_id for item in evidence] == [f"c{i}" for i in range(20)]
    evidence[3]
    assert calls.count("c3") == 2


def test_it_is_a_sequence():
    evidence = EvidenceSet(clips(5), made([]))
    assert evidence[-1].clip.clip_id == "c4"
    assert [item.clip.clip_id for item in evidence[1:3]] == ["c1", "c2"]
    with pytest.raises(IndexError):
        evidence[5]


def test_clips_differ_by_name_content_and_music():
    one, other = clips(2)
    keys = {clip_key(one), clip_key(other), clip_key(one.replace(music_sha256="x")), clip_key(one.replace(sha256="y"))}
    assert len(keys) == 4
