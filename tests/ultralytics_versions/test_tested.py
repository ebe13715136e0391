"""Which releases of Ultralytics are supported is said once, and everywhere the same; another one is a warning."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from ultralytics_versions.tested import (
    BEYOND,
    OLDEST,
    TESTED,
    lacking,
    levels_can_go,
    warning,
    without_rectangles,
    without_teacher,
)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("version", [*TESTED, "8.3.200", "8.4.999"])
def test_a_release_of_the_range_says_nothing(version: str) -> None:
    assert warning(version) is None


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("8.3.167", "older than anything"),
        ("8.2.103", "older than anything"),
        ("8.5.0", "newer than anything"),
        ("8.5.0rc1", "newer than anything"),
        ("9.0", "newer than anything"),
    ],
)
def test_a_release_outside_is_a_warning_that_says_what_was_tested(version: str, said: str) -> None:
    told = warning(version)
    assert told is not None and version in told and said in told
    assert all(release in told for release in TESTED) and f'"ultralytics>={OLDEST},<{BEYOND}"' in told


def test_the_package_declares_the_range_that_is_tested() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"ultralytics>={OLDEST},<{BEYOND}" in declared
    assert TESTED[0] == OLDEST and warning(TESTED[-1]) is None


def test_the_documentation_names_the_releases_that_are_tested() -> None:
    page = (ROOT / "docs" / "versions.md").read_text()
    assert f"{OLDEST} to 8.4" in page and all(f"| {release} |" in page for release in TESTED)
    assert "docs/versions.md" in (ROOT / "README.md").read_text()


def test_what_came_later_is_named_with_what_happens_without_it() -> None:
    early, between = lacking("8.3.200"), lacking("8.4.20")
    assert len(early) == 4 and "no YOLO26 (since 8.4.0)" in early[0]
    assert levels_can_go("8.4.20") and not levels_can_go("8.4.14")
    assert between == (without_teacher("8.4.20"), without_rectangles("8.4.20")) and "no teacher" in between[0]
    assert lacking(TESTED[-1]) == () and without_teacher("8.4.77") is None
    assert "no input sizes of two sides" in str(without_rectangles("8.4.175")) and without_rectangles("8.4.190") is None


@pytest.mark.parametrize(
    ("version", "works"), [("8.3.253", True), ("8.4.0", False), ("8.4.14", False), ("8.4.20", True)]
)
def test_releases_that_cannot_train_masks_say_so(version: str, works: bool) -> None:
    assert any("batch of two images" in line for line in lacking(version)) is not works
