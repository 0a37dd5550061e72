import runpy
from pathlib import Path

import pytest

_HELPERS = runpy.run_path(str(Path(__file__).resolve().parents[1] / "run_folders.py"))


@pytest.fixture(scope="session")
def make_run():
    """The function that writes synthetic run folders."""
    return _HELPERS["make_run"]
