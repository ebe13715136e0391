"""Imports point downwards only: search -> pruning, objectives -> ultralytics_versions.

Pruning and objectives do not know each other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "ultralytics_versions": {"search", "objectives", "pruning"},
    "pruning": {"search", "objectives"},
    "objectives": {"search", "pruning"},
    "search": set[str](),
}
DOORS = {
    "optuna": {
        "search/propose/optuna_proposer.py",
        "search/propose/optuna_backend/internals.py",
        "search/propose/optuna_backend/storage.py",
        "search/propose/optuna_backend/samplers.py",
    },
    "ray": {"search/workers/ray_cluster/ray_engine.py"},
}
"""Libraries that only these files may import."""


def imports(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def faults(path: str, source: str) -> list[str]:
    room = path.partition("/")[0]
    found = set(imports(source))
    wrong = found & FORBIDDEN[room]
    return sorted(wrong | {library for library, doors in DOORS.items() if library in found and path not in doors})


@pytest.mark.parametrize("room", FORBIDDEN)
def test_imports_point_downwards(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    found = {str(f.relative_to(ROOT)): faults(str(f.relative_to(ROOT)), f.read_text()) for f in files}
    assert not {path: wrong for path, wrong in found.items() if wrong}


def test_the_files_that_begin_are_there() -> None:
    from tests.conftest import LONGEST

    names = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert not [name for name in LONGEST if name not in names] and len(set(LONGEST)) == len(LONGEST)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("pruning/plan.py", "from search.orchestration.loop import run"),
        ("objectives/latency/protocol.py", "import pruning"),
        ("ultralytics_versions/parts.py", "from pruning.errors import PruningError"),
        ("search/orchestration/loop.py", "import optuna"),
        ("search/cli.py", "def f():\n    import ray.tune"),
    ],
)
def test_the_guard_can_fail(path: str, source: str) -> None:
    assert faults(path, source)
