"""A browser, pages that must not complain, and runs to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.browser.driver import PATIENCE_MS, Serving, chromium, chromium_path
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


@pytest.fixture(scope="session")
def kept_page(browser: Any) -> Iterator[Any]:
    """A page that serves one test after the other: to begin a new one costs a browser three times what it shows."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()


@pytest.fixture
def open_page(browser: Any, kept_page: Any) -> Iterator[OpenPage]:
    """Opens pages whose console must stay silent: an error or a warning of the page fails the test.

    The first of a test is the kept page, emptied; further ones, and those of another kind of browser, are new.
    """
    said: list[str] = []
    contexts: list[Any] = []
    listening: list[tuple[Any, str, Any]] = []

    def listen(page: Any, event: str, handler: Any) -> None:
        listening.append((page, event, handler))
        type(page).on(page, event, handler)

    def kept(width: int, height: int, offline: bool) -> Any:
        kept_page.set_viewport_size({"width": width, "height": height})
        kept_page.context.set_offline(offline)
        kept_page.mouse.move(0, 0)
        return kept_page

    def new(width: int, height: int, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        return context.new_page()

    def open_one(address: str, *, width: int = 1280, height: int = 900, **options: Any) -> Any:
        if not listening and not options.keys() - {"offline"}:
            page = kept(width, height, bool(options.get("offline")))
        else:
            page = new(width, height, **options)
        page.on = partial(listen, page)
        page.on("console", lambda message: said.append(message.text) if is_ours(message) else None)
        page.on("pageerror", lambda error: said.append(f"uncaught: {error}"))
        page.said = said
        page.goto(address)
        return page

    yield open_one
    if any(page is kept_page for page, _, _ in listening):
        kept_page.evaluate("() => { try { localStorage.clear(); } catch (error) { /* about:blank has none */ } }")
        kept_page.goto("about:blank")
    for context in contexts:
        context.close()
    for page, event, handler in listening:
        page.remove_listener(event, handler)
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
