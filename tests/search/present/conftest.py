"""Snapshots to draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.search.present import snapshots

Build = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def build() -> Build:
    """Makes a snapshot of any size."""
    return snapshots.build
