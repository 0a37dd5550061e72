"""LAION's linear head."""

from pathlib import Path

import numpy as np
import pytest

from macebench.errors import UserError, WeightsMissingError
from macebench.metrics._laion import WEIGHTS, laion_head, read_head
from macebench.weights import find

torch = pytest.importorskip("torch")

PUBLISHED = (
    Path(__file__).resolve().parents[2].parent / "shared" / "data" / "weights" / "laion_sa_0_4_vit_l_14_linear.pth"
)


@pytest.mark.skipif(not PUBLISHED.is_file(), reason=f"no {PUBLISHED}")
def test_published_head(tmp_path, monkeypatch):
    monkeypatch.setenv("MACEBENCH_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsMissingError):
        laion_head()
    path = find(WEIGHTS).path
    path.parent.mkdir(parents=True)
    path.write_bytes(PUBLISHED.read_bytes())
    weight, bias = laion_head()
    assert weight.shape == (768,)
    assert bias == pytest.approx(3.529371738433838)
    assert weight[:3].tolist() == pytest.approx([1.87272047996521, -2.851266860961914, -0.2658381164073944])
    assert np.linalg.norm(weight) == pytest.approx(28.44439697265625)


def test_other_files(tmp_path):
    torch.save({"weight": torch.ones(1, 512), "bias": torch.ones(1)}, tmp_path / "small.pth")
    (tmp_path / "text.pth").write_bytes(b"\x80\x02]q\x00.")
    for name in ("small.pth", "text.pth", "none.pth"):
        with pytest.raises(UserError, match="is not LAION's linear head"):
            read_head(tmp_path / name)
