"""Imports point one way: the core knows none of the folders below it, metrics never import models."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("baselines", "curation", "leaderboards", "metrics", "models")
LOOP = {
    "__main__", "prepare", "run", "runfolder", "extract", "evidence", "copies", "animation", "pairfolder", "generate",
    "selftest", "compare", "cascade", "cli", "dances", "demo", "report",
}  # fmt: skip
ALLOWED = {
    "metrics": {"metrics"},
    "curation": {"curation"},
    "models": {"models"},
    "baselines": {"baselines", "models"},
    "leaderboards": {"leaderboards", "metrics"},
}
CORE = sorted(
    path
    for path in (ROOT / "macebench").rglob("*.py")
    if not LOOP & {part.removesuffix(".py") for part in path.relative_to(ROOT / "macebench").parts}
)
BELOW = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def imported(path):
    """Names below macebench that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (name.split(".")[1] for name in names if name.startswith("macebench."))


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_core_imports_nothing_below_it(path):
    assert not set(imported(path)) & ({*FOLDERS} | LOOP)


@pytest.mark.parametrize("path", BELOW, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_folders_import_only_what_they_may(path):
    folder = path.relative_to(ROOT).parts[0]
    found = set(imported(path))
    assert not found & (set(FOLDERS) - ALLOWED[folder])
    assert not found & (LOOP - {"report"} if folder == "leaderboards" else LOOP)
