"""The documentation as a site: every page has its place, and a link that leads nowhere is an error."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def pages(nav: object) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    for inner in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from pages(inner)


def test_every_page_has_one_place() -> None:
    assert sorted(pages(SITE["nav"])) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_the_order_is_that_of_a_users_day() -> None:
    order = list(pages(SITE["nav"]))
    day = ["install", "first_search", "tutorial", "latency", "dashboard", "export", "reference", "troubleshooting"]
    assert [page for page in order if page.removesuffix(".md") in day] == [f"{page}.md" for page in day]
    assert order[0] == "index.md" and order[-1] == "architecture.md"


def test_the_first_search_is_the_demo() -> None:
    """`make demo` is run by hand and by the README's reader; the page must not promise another one."""
    page, makefile = (ROOT / "docs" / "first_search.md").read_text(), (ROOT / "Makefile").read_text()
    (block,) = re.findall(r"^```\n(python studies.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (demo,) = re.findall(r"^demo: .*?\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    lines = [shlex.split(line.strip().removeprefix("$(BIN)/")) for line in demo.splitlines()]
    typed = [shlex.split(line) for line in block.splitlines()]
    assert [words for words in lines if words[0] in ("python", "paretoprune")] == typed


def build(root: Path, out: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True)


needs_mkdocs = pytest.mark.skipif(find_spec("material") is None, reason="needs mkdocs-material: pip install '.[docs]'")


@pytest.mark.slow
@needs_mkdocs
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    done = build(ROOT, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    made = {path.name for path in (tmp_path / "site").iterdir()}
    assert {page.replace(".md", ".html") for page in pages(SITE["nav"])} <= made
    assert not [name for name in made if name.endswith((".py", ".yaml"))]
    reference = (tmp_path / "site" / "reference.html").read_text()
    assert "search.trials" in reference
    assert not re.findall(r'(?:src|stylesheet" href)="https?:', reference), "something is fetched from elsewhere"


@pytest.mark.slow
@needs_mkdocs
def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    with (tmp_path / "docs" / "install.md").open("a") as page:
        page.write("\n[a page](gone.md), [a place](search.md#gone)\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0 and "gone.md" in done.stderr and "#gone" in done.stderr
