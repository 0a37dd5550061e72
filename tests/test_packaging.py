"""The two tables of pyproject.toml, the folders on disk and the built wheel must agree."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAPPED = ("baselines", "curation", "leaderboards", "metrics", "models")


def tables():
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]


def packages_on_disk():
    found = set()
    for top in ("macebench", *MAPPED):
        for init in (ROOT / top).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT).parts
            found.add(".".join(parts if top == "macebench" else ("macebench", *parts)))
    return found


def test_packages_table_is_the_disk():
    assert sorted(tables()["packages"]) == sorted(packages_on_disk())


def test_every_folder_with_code_is_a_package():
    for top in ("macebench", *MAPPED):
        for file in (ROOT / top).rglob("*.py"):
            assert (file.parent / "__init__.py").is_file(), f"{file} is in no package and would not be installed"


def test_package_dir_maps_the_five_folders():
    expected = {"macebench": "macebench"} | {f"macebench.{name}": name for name in MAPPED}
    assert tables()["package-dir"] == expected


@pytest.mark.slow
def test_wheel_holds_every_module_and_data_file(tmp_path):
    copy = tmp_path / "source"
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in tracked:
        if (ROOT / name).is_file():
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path / "dist"),
        str(copy),
    ]
    subprocess.run(command, check=True, capture_output=True)
    names = set(zipfile.ZipFile(next((tmp_path / "dist").glob("*.whl"))).namelist())
    for top in ("macebench", *MAPPED):
        for file in (copy / top).rglob("*"):
            if file.suffix in {".py", ".yaml", ".css", ".js", ".typed"}:
                relative = file.relative_to(copy).as_posix()
                expected = relative if top == "macebench" else f"macebench/{relative}"
                assert expected in names, f"{relative} is missing in the wheel"
