"""Versions of a run: refused where they differ, and remembered where somebody mixes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.errors import NotComparable
from search.run_folder.environment import EARLIER, check_versions, mixed

OLD, NEW = {"torch": "2.10.0", "numpy": "2.0.0"}, {"torch": "2.14.1", "numpy": "2.4.6"}


def test_other_versions_of_what_measures_are_refused_and_named(tmp_path: Path) -> None:
    with pytest.raises(NotComparable, match=r"torch: 2\.10\.0 in the run, 2\.14\.1 now"):
        check_versions(OLD, NEW, tmp_path)
    check_versions(OLD, {**NEW, "torch": "2.10.0"}, tmp_path)  # numpy measures nothing


def test_mixed_versions_are_remembered_once_and_without_the_present_ones() -> None:
    there = mixed(OLD, NEW)
    assert there[EARLIER] == "torch 2.10.0"
    back = mixed(there, OLD)
    assert back[EARLIER] == "torch 2.14.1"
    assert mixed(back, NEW)[EARLIER] == "torch 2.10.0"
    assert mixed(OLD, {**NEW, "torch": "2.10.0"}) == {**NEW, "torch": "2.10.0"}
