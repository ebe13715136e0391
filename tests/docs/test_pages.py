"""What the pages tell a reader to type, to expect and to look up exists."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml

from search.cli import app
from search.config.inputs.ultralytics_config import training_keys

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
KEYS = set(yaml.safe_load((ROOT / "docs" / "keys.yaml").read_text()))
SECTIONS = "search|space|recover|latency|keep|notify"
COLUMN = re.compile(r"^\| (.*?) \| ", re.MULTILINE)


def faults(text: str) -> list[str]:
    """Commands and keys that are none."""
    typed = re.findall(r"^paretoprune ([a-z]\S*)", text, re.MULTILINE) + re.findall(r"`paretoprune ([a-z]\w*)", text)
    keys = re.findall(rf"\b(({SECTIONS})\.(\w+))[=:](?!:)", text)
    wrong = [f"no command {name}" for name in typed if name not in COMMANDS]
    return wrong + [f"no key {key}" for key, section, name in keys if not _is_key(key, section, name)]


def _is_key(key: str, section: str, name: str) -> bool:
    return key in KEYS or (section == "recover" and name in training_keys())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_keys_exist(page: Path) -> None:
    assert faults(page.read_text()) == []


def test_the_guard_can_fail() -> None:
    text = "paretoprune serach x\nsay `paretoprune shwo 3`, search.trails=3, recover.epoch=3, recover.lr0=0.1"
    assert len(faults(text)) == 4


def test_the_readme_is_one_screen_to_the_first_front() -> None:
    """Install, five commands, then the picture."""
    first, picture, _ = (ROOT / "README.md").read_text().partition("![")
    places = [first.index(head) for head in ("## Install", "## Five commands")]
    assert picture and places == sorted(places) and len(first.splitlines()) <= 35
    typed = re.findall(r"^paretoprune (\w+)", first, re.MULTILINE)
    assert typed == ["init", "check", "search", "pick", "export"]


EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


def test_every_extra_that_is_named_exists_and_users_are_told_of_theirs() -> None:
    page = (ROOT / "docs" / "install.md").read_text()
    texts = [said(), *(path.read_text() for path in PAGES)]
    named = {
        one for text in texts for found in re.findall(r"paretoprune\S*\[([a-z,]+)\]", text) for one in found.split(",")
    }
    assert len(named) > 3 and named <= EXTRAS
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", page, re.MULTILINE)
    assert {one for row in rows for one in re.findall(r"\w+", row)} == EXTRAS - {"dev", "bench", "docs"}


# --- troubleshooting: what a user sees is what the code says ---


@cache
def said() -> str:
    """Every text of the packages and of the page; … stands for what is filled in."""
    sources = (path for room in ("pruning", "objectives", "search") for path in (ROOT / room).rglob("*.py"))
    texts = [text for path in sources for text in _texts(ast.parse(path.read_text()))]
    return "\n".join(texts)


def _texts(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (one.value if isinstance(one, ast.Constant) else "…" for one in node.values)
            found.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found


def unsaid(page: str) -> list[str]:
    """Messages in a first column that nothing says: in backticks, but for what another program says."""
    cells = [cell for cell in COLUMN.findall(page) if "says it)" not in cell]
    return [span for cell in cells for span in re.findall(r"`([^`]+)`", cell) if not _is_said(span)]


def _is_said(span: str) -> bool:
    return span in COMMANDS or span.removeprefix("expected: ").strip("… ") in said()


def test_every_symptom_is_a_message_of_the_code() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    assert unsaid(page) == []
    assert len(COLUMN.findall(page)) > 50


def test_that_guard_can_fail() -> None:
    assert unsaid("| `the moon is full: …` | why | do |\n| `pick` | a | b |\n| `x y z` (it says it) | a | b |\n") == [
        "the moon is full: …"
    ]
