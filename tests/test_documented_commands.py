"""Every command in README, CONTRIBUTING and docs/ exists and has the options that are written there."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from macebench.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ROOT_COMMAND = typer.main.get_command(app)


def commands(page):
    """What follows ``macebench`` in the bash blocks of a page, as words."""
    for block in re.findall(r"^```bash\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S):
        for line in block.splitlines():
            for part in line.split("#")[0].split("&&"):
                words = shlex.split(part)
                if "macebench" in words:
                    yield words[words.index("macebench") + 1 :]


def options_of(words):
    """Options of the command that begins with `words`."""
    command, rest = ROOT_COMMAND, list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        if rest[0] not in command.commands and "run" in command.commands:  # `macebench curate DIR` is its `run`
            return options_of_command(command.commands["run"])
        assert rest[0] in command.commands, f"no command {rest[0]}"
        command = command.commands[rest.pop(0)]
    if hasattr(command, "commands") and "run" in command.commands:
        return options_of_command(command.commands["run"])
    return options_of_command(command)


def options_of_command(command):
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


LINES = sorted({(page.name, " ".join(words)) for page in PAGES for words in commands(page)})


def test_there_are_commands_to_check():
    assert len(LINES) >= 30
    assert {page for page, _ in LINES} >= {"README.md", "CONTRIBUTING.md", "motion-expert.md"}


@pytest.mark.parametrize(("page", "line"), LINES, ids=lambda value: value[:60])
def test_commands_have_the_options_that_are_written(page, line):
    words = line.split()
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert given <= options_of(words), page


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
