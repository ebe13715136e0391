"""Snapshots to draw, and a browser to draw them in."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.search.present import snapshots

Build = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def build() -> Build:
    """Makes a snapshot of any size."""
    return snapshots.build


@pytest.fixture
def dump_dom(tmp_path: Path) -> Callable[[str], str]:
    """The document of an address after its scripts have run in headless Chromium."""
    browser = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium; on Debian: apt-get install chromium")

    def dump(address: str) -> str:
        flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
        more = "--disable-component-update --disable-sync --virtual-time-budget=2000 --window-size=1280,1000"
        command = [str(browser), *flags.split(), *more.split(), f"--user-data-dir={tmp_path / 'profile'}"]
        done = subprocess.run([*command, "--dump-dom", address], capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    return dump
