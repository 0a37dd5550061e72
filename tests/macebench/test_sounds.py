import numpy as np
import pytest

from macebench.errors import MediaError
from macebench.media import write_wav
from macebench.sounds import SILENT, length_s, listen


def test_music_that_is_too_short_is_refused(tmp_path):
    for seconds, count in ((0.1, 800), (0.49, 3920)):
        path = write_wav(tmp_path / "short.wav", np.full(count, 0.1, np.float32), 8000)
        for call in (length_s, listen):
            with pytest.raises(MediaError, match=rf"too short: short\.wav has {seconds:.2f} s of sound, at least 0\.5"):
                call(path)


def test_half_a_second_is_enough(tmp_path):
    path = write_wav(tmp_path / "song.wav", np.full(4000, 0.1, np.float32), 8000)
    assert length_s(path) == pytest.approx(0.5)
    assert listen(path) == ""


def test_silence_is_noted_and_a_single_click_is_none(tmp_path):
    samples = np.zeros(16000, np.float32)
    assert listen(write_wav(tmp_path / "silent.wav", samples, 8000)) == SILENT
    samples[15000] = 0.5
    assert listen(write_wav(tmp_path / "click.wav", samples, 8000)) == ""


def test_a_file_that_is_no_sound_is_named_by_the_decoder(tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    with pytest.raises(MediaError, match="not a media file"):
        listen(tmp_path / "bad.wav")
