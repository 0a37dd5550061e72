import numpy as np
import pytest

from macebench.errors import MediaError
from macebench.media import Decoder, write_wav

RATE = 16000


def test_pieces_put_together_are_the_whole(tmp_path):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 50 * RATE)
    path = write_wav(tmp_path / "a.wav", samples, RATE)
    with Decoder() as decoder:
        parts = list(decoder.sound_parts(path))
        whole = decoder.audio(path, RATE)
    assert len(parts) > 1
    np.testing.assert_array_equal(np.concatenate([part.samples for part in parts]), whole.samples)
    starts = np.cumsum([0, *(len(part.samples) for part in parts[:-1])]) / RATE
    np.testing.assert_allclose([part.start_s for part in parts], whole.start_s + starts)
    assert {part.sample_rate for part in parts} == {RATE}


def test_leaving_early_and_files_without_sound(tmp_path):
    path = write_wav(tmp_path / "a.wav", np.zeros(50 * RATE), RATE)
    (tmp_path / "b.wav").write_bytes(b"nothing")
    with Decoder() as decoder:
        assert next(decoder.sound_parts(path)).start_s == 0.0
        assert len(decoder.audio(path, RATE).samples) == 50 * RATE
        with pytest.raises(MediaError):
            list(decoder.sound_parts(tmp_path / "b.wav"))
