"""The planted raw set through the whole pipeline: everything that is known of it must come out."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from macebench.curation.config import load_config
from macebench.curation.pipeline import CurateJob, curate
from macebench.curation.stages.shots import cut_times
from macebench.demo.rawset import build_raw_set
from macebench.demo.rawset_sound import find_clicks
from macebench.media import Decoder
from macebench.optout import mark

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blazepose_weights")]
AUDIO_S = 0.010
PICTURES = 2


@pytest.fixture(scope="module")
def curated(tmp_path_factory):
    """Truth, kept clips, ledger and folder of a curated raw set."""
    from macebench import weights

    if any(weights.status(row.name) != "present" for row in weights.select("blazepose")):
        pytest.skip("weights missing: run `macebench weights pull blazepose`")
    folder = tmp_path_factory.mktemp("truth")
    truth = build_raw_set(folder / "raw", small=True, workers=2)
    config = load_config(None, [f"probe.optout={folder / 'raw' / 'optout.txt'}"])
    sources = (str(folder / "raw" / "sources"),)
    curate(CurateJob(sources, folder / "set", config, workers=2, store=folder / "store"))
    clips = pd.read_parquet(folder / "set" / "metadata.parquet")
    ledger = pd.read_parquet(folder / "set" / "ledger.parquet")
    return truth, clips, ledger, folder


def of(table, source):
    return table[(table["source_name"] == source.file_name) | (table["source_id"] == mark(source.sha256))]


def test_every_bad_source_is_dropped_by_the_right_stage_for_the_right_reason(curated):
    truth, clips, ledger, _ = curated
    assert len(truth.rejected) >= 15
    for source in truth.rejected:
        found = set(of(ledger, source)[["stage", "reason"]].itertuples(index=False, name=None))
        assert found & {(source.stage, reason) for reason in source.reasons}, (source.file_name, found)
        assert not len(of(clips, source)), source.file_name


def test_no_good_span_is_lost_and_no_clip_crosses_a_cut(curated):
    truth, clips, ledger, _ = curated
    for source in truth.kept:
        kept = of(clips, source)
        for start, end in source.usable_spans:
            inside = kept[(kept["start_s"] >= start - 0.05) & (kept["end_s"] <= end + 0.05)]
            assert len(inside), (source.file_name, start, end)
        for clip in kept.itertuples():
            assert not any(clip.start_s + 1e-3 < cut < clip.end_s - 1e-3 for cut in source.cuts_s), source.file_name
        for gone in source.dropped:
            rows = of(ledger, source)
            assert ((rows["stage"] == gone.stage) & (rows["reason"] == gone.reason)).any(), (source.file_name, gone)


def test_cuts_are_found_within_two_pictures_and_flashes_are_none(curated):
    from macebench.curation.stages.shots import Shots, ShotsConfig

    truth, *_ = curated
    folder = curated[3] / "raw" / "sources"
    n_true = n_found = n_hit = 0
    stage = Shots(ShotsConfig())
    for source in truth.sources:
        if not (source.cuts_s or source.gradual or source.flashes_s):
            continue
        with Decoder() as decoder:
            observer = stage.observe(decoder.probe(folder / source.file_name))
            for batch in decoder.frames(folder / source.file_name, max_side=640):
                observer.update(batch.frames, batch.times_s)
        found = list(cut_times(observer.finish(), stage.config))
        slack = PICTURES / source.fps + 1e-6
        wanted = [(cut, cut) for cut in source.cuts_s] + list(source.gradual)
        n_true, n_found = n_true + len(wanted), n_found + len(found)
        n_hit += sum(any(start - slack <= time <= end + slack for time in found) for start, end in wanted)
    assert n_true >= 4
    assert 2 * n_hit / (n_true + n_found) >= 0.95


def test_the_sound_of_kept_clips_is_in_step(curated):
    truth, clips, _, folder = curated
    marked = {source.file_name: source for source in truth.kept if source.marked}
    offsets = []
    with Decoder() as decoder:
        for clip in clips[clips["source_name"].isin(marked)].itertuples():
            sound = decoder.audio(folder / "set" / clip.file_name, 44100)
            heard = find_clicks(sound.samples, sound.sample_rate) + sound.start_s
            planted = np.array(marked[clip.source_name].audio_onsets_s) - clip.start_s
            inside = planted[(planted > 0.1) & (planted < clip.end_s - clip.start_s - 0.1)]
            offsets += [float(np.abs(heard - time).min()) for time in inside]
    assert len(offsets) >= 3
    assert max(offsets) < AUDIO_S, Path(folder)
