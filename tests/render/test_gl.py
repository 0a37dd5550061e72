"""The OpenGL renderer agrees with the painter; skipped where no off-screen OpenGL is installed."""

import os
import subprocess
import sys

import numpy as np
import pytest

from macebench.errors import UserError
from macebench.render import gl

# pyrender chooses its platform when it is imported: each runs in a process of its own
SCRIPT = """
import sys
import warnings
warnings.simplefilter("ignore")
import numpy as np
from macebench.demo.choreography import choreograph
from macebench.render import fit_camera, get_renderer
from macebench.types import Motion
motion = choreograph(np.arange(0.2, 4.0, 0.5), 4.0, 30.0, 3, "disco").motion
some = slice(0, None, 24)
motion = Motion(1.25, motion.joints[some], motion.rotations[some], motion.root[some])
camera = fit_camera(motion, 512, 512)
pictures = {}
for name in ("painter", "pyrender"):
    renderer = get_renderer(name, 512, 512)
    pictures[name + "_mask"] = np.stack(list(renderer.silhouette(motion, camera=camera)))
    pictures[name + "_frame"] = np.stack(list(renderer.render(motion, camera=camera)))
np.savez(sys.argv[1], **pictures)
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    try:
        platform = gl.choose_platform()
    except UserError as error:
        pytest.skip(str(error))
    pytest.importorskip("pyrender", reason="pyrender is not installed; pip install 'macebench[render]'")
    path = tmp_path_factory.mktemp("gl") / "pictures.npz"
    environment = {**os.environ, "PYOPENGL_PLATFORM": platform}
    subprocess.run([sys.executable, "-c", SCRIPT, str(path)], check=True, env=environment, timeout=240)
    with np.load(path) as data:
        return dict(data)


@pytest.mark.slow
def test_silhouettes_agree(pictures):
    painted, drawn = pictures["painter_mask"], pictures["pyrender_mask"]
    both = (painted & drawn).sum(axis=(1, 2))
    either = (painted | drawn).sum(axis=(1, 2))
    assert (both / either).min() > 0.97
    assert drawn.mean(axis=(1, 2)).min() > 0.02


@pytest.mark.slow
def test_pictures_agree_inside_both_silhouettes(pictures):
    inside = pictures["painter_mask"] & pictures["pyrender_mask"]
    difference = np.abs(pictures["painter_frame"].astype(int) - pictures["pyrender_frame"].astype(int))
    assert difference[inside].mean() < 8.0
    assert difference[~inside].mean() < 2.0


def test_without_libraries_the_error_names_the_packages(monkeypatch):
    monkeypatch.delenv("PYOPENGL_PLATFORM", raising=False)
    monkeypatch.setattr(gl.ctypes.util, "find_library", lambda name: None)
    with pytest.raises(UserError, match="libosmesa6"):
        gl.choose_platform()


def test_the_platform_that_was_asked_for_is_used(monkeypatch):
    monkeypatch.setattr(gl.ctypes.util, "find_library", lambda name: f"lib{name}.so")
    monkeypatch.setenv("PYOPENGL_PLATFORM", "egl")
    assert gl.choose_platform() == "egl"
    monkeypatch.delenv("PYOPENGL_PLATFORM")
    assert gl.choose_platform() == "osmesa"
