"""What the pages of the studies and the tutorial tell a reader to type and to click exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from search.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / "tutorial.md", ROOT / "docs" / "python.md", *sorted((ROOT / "studies").rglob("*.md"))]
COMMANDS = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}


def faults(page: Path, text: str) -> list[str]:
    """Commands that are none, scripts and links that lead nowhere, figures that were never filled in."""
    typed = re.findall(r"^paretoprune (\S+)", text, re.MULTILINE)
    files = re.findall(r"(?:python|sh|search|prune) (studies/\S+\.(?:py|sh|yaml))", text)
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    wrong = [f"no command {name}" for name in typed if name not in COMMANDS]
    wrong += [f"no file {name}" for name in files if not (ROOT / name).is_file()]
    wrong += [f"no link {link}" for link in links if link and not (page.parent / link).exists()]
    return wrong + re.findall(r"@[A-Z]+@", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_is_written_exists(page: Path) -> None:
    assert faults(page, page.read_text()) == []


def test_the_table_has_a_row_for_each_pipeline() -> None:
    text = (ROOT / "studies" / "README.md").read_text()
    for name in ("manual_batch", "slimming", "yolov8x_half", "ejection_fraction", "iterative_seg"):
        assert f"({name}/README.md)" in text, name


def test_the_guard_can_fail() -> None:
    text = "paretoprune serach x\nsh studies/nowhere/run.sh\n[a](gone.md)\n@TABLE@\n"
    assert len(faults(PAGES[0], text)) == 4
