"""The Dockerfile copies what the wheel is built of, and installs what there is. It is built where there is Docker."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

from search.cli import app
from tests.test_wheel import PACKAGES

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMMANDS = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}


def instructions(text: str) -> list[tuple[str, str]]:
    """(word, rest) of every instruction, continued lines joined, comments left out."""
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in lines if line]


def faults(text: str) -> Iterator[str]:
    found = instructions(text)
    copied = {source for word, rest in found if word == "COPY" and "--from" not in rest for source in rest.split()[:-1]}
    for needed in ("pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], *PACKAGES):
        if needed not in copied:
            yield f"the wheel needs {needed}"
    yield from (f"no {name}" for name in copied if not (ROOT / name).exists())
    arguments = dict(rest.split("=", 1) for word, rest in found if word == "ARG")
    yield from (
        f"no extra {one}" for one in arguments["EXTRAS"].split(",") if one not in PROJECT["optional-dependencies"]
    )
    images = [rest.split()[0] for word, rest in found if word == "FROM"]
    least = PROJECT["requires-python"].removeprefix(">=")
    yield from (f"{image} is not Python {least}" for image in images if not image.startswith(f"python:{least}-"))
    if (("ENTRYPOINT", '["paretoprune"]') not in found) or "paretoprune" not in PROJECT["scripts"]:
        yield "no command"


def test_the_dockerfile_copies_and_installs_what_there_is() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert list(faults(text)) == []
    assert {"cpu", "cuda"} <= set(re.findall(r"DEVICE\"? ?=+ ?(\w+)", text))


def test_the_guard_can_fail() -> None:
    text = (ROOT / "Dockerfile").read_text()
    wrong = text.replace("COPY search search", "COPY serach search").replace("EXTRAS=dashboard", "EXTRAS=dashbord")
    assert set(faults(wrong)) == {"the wheel needs search", "no serach", "no extra dashbord"}


def test_what_the_page_builds_and_runs_is_in_it() -> None:
    arguments = {
        rest.partition("=")[0] for word, rest in instructions((ROOT / "Dockerfile").read_text()) if word == "ARG"
    }
    page = (ROOT / "docs" / "install.md").read_text()
    lines = [shlex.split(line, comments=True) for line in re.findall(r"^docker .*", page, re.MULTILINE)]
    assert {words[1] for words in lines} == {"build", "run"}
    for words in lines:
        if words[1] == "build":
            given = [words[number + 1] for number, word in enumerate(words) if word == "--build-arg"]
            assert {one.partition("=")[0] for one in given} <= arguments and words[-1] == "."
        else:
            assert words[words.index("paretoprune") + 1] in COMMANDS and "--shm-size=2g" in words
