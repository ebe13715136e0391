"""What tests, benchmark and pictures share: a Chromium, a server, and a page that tells when it has drawn."""

from __future__ import annotations

import gc
import shutil
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from search.present.dashboard.access import ListenAddress
from search.present.dashboard.app import make_app
from search.present.dashboard.jobs import Jobs
from search.present.dashboard.main import listening, server_of

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_MS = 150_000
"""So much a busy machine may take for a step."""
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")


def chromium_path() -> str | None:
    """Where a Chromium is installed; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless Chromium under Playwright. RuntimeError where none is installed."""
    from playwright.sync_api import sync_playwright

    path = chromium_path()
    if path is None:
        raise RuntimeError("no Chromium found: make browser-deps installs one")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


class Serving:
    """A dashboard in a thread of this process; a stopped one can be started again on the same port."""

    def __init__(self, runs: Sequence[Path], jobs: Jobs | None = None, token: str = "") -> None:
        self._runs, self._jobs, self._token = list(runs), jobs, token
        self.port = 0

    @property
    def address(self) -> str:
        """What to open."""
        return f"http://127.0.0.1:{self.port}/"

    @contextmanager
    def running(self) -> Iterator[Serving]:
        """Serve inside the block."""
        with listening("127.0.0.1", self.port) as socket:
            self.port = socket.getsockname()[1]
            app = make_app(self._runs, ListenAddress("127.0.0.1", self.port, self._token), self._jobs)
            server = server_of(app)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
            thread.start()
            yield self
            server.should_exit = True
            thread.join(10)
            with (
                warnings.catch_warnings()
            ):  # a browser that is still connected leaves transports of a loop that is gone
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()


def drawn(page: Any, times: int = 1) -> None:
    """Wait until the page has drawn itself so often, figures included."""
    page.wait_for_function(
        "times => Number(document.body.dataset.drawn || 0) >= times && document.querySelector('#front .main-svg')",
        arg=times,
        timeout=PATIENCE_MS,
    )
