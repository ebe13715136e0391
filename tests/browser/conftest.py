"""A browser, pages that must not complain, and runs to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.driver import Serving, chromium, chromium_path
from tests.browser.runs import Studio

OpenPage = Callable[..., Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium; skips where there is none."""
    pytest.importorskip("playwright", reason="playwright is not installed: pip install playwright")
    if chromium_path() is None:
        pytest.skip("no Chromium on this machine: make browser-deps installs one")
    with chromium() as found:
        yield found


@pytest.fixture
def open_page(browser: Any) -> Iterator[OpenPage]:
    """Opens pages whose console must stay silent: an error or a warning of the page fails the test."""
    said: list[str] = []
    contexts = []

    def open_one(address: str, *, width: int = 1280, height: int = 900, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text) if is_ours(message) else None)
        page.on("pageerror", lambda error: said.append(f"uncaught: {error}"))
        page.said = said
        page.goto(address)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not said, "the console must stay silent"


def is_ours(message: Any) -> bool:
    """Errors and warnings, but for the browser's own word on a server that a test has ended."""
    return message.type in ("error", "warning") and "net::ERR_" not in message.text


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests that write copy it."""
    return Studio(tmp_path_factory.mktemp("studio")).write()


@pytest.fixture
def served(studio: Path) -> Iterator[Serving]:
    """A dashboard of the finished run."""
    with Serving([studio]).running() as serving:
        yield serving
