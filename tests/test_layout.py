"""The layout: small folders, no cycles, imports downwards, tests beside their modules. docs/architecture.md draws it.

A folder's *children* are its modules and its subfolders, each subfolder taken as one. Imports between the children of
a folder, those inside functions included, must form no cycle, so neither modules nor folders know each other in a
circle. The children of `search` lie on floors besides, and an import may only go to a lower floor. What only a type
checker imports (`if TYPE_CHECKING:`) does not count: it names a type and loads nothing.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("pruning", "objectives", "search", "ultralytics_versions")
MOST_MODULES = 12
FLOORS = (
    ("errors", "trial"),
    ("config", "run_folder"),
    ("space", "export"),
    ("propose", "evaluate"),
    ("workers", "results"),
    ("prepare", "deliver"),
    ("orchestration", "present"),
    ("callbacks",),
    ("study",),
    ("references", "testing"),
    ("commands",),
    ("cli", "__init__"),
)
"""The children of `search`, the lowest first."""
MIRRORED = PACKAGES
"""Folders of tests/ whose files are named after the module that they test."""

Edges = set[tuple[str, str]]


def modules(root: Path) -> dict[str, Path]:
    """Dotted name -> file, of every module of the packages; a package's own file ends in `__init__`."""
    files = (path for package in PACKAGES for path in sorted((root / package).rglob("*.py")))
    return {".".join(path.relative_to(root).with_suffix("").parts): path for path in files}


def imports(root: Path) -> Edges:
    """(importing module, imported module) within the packages."""
    known = modules(root)
    return {
        (name, target)
        for name, path in known.items()
        for target in imported(path.read_text(encoding="utf-8"), known)
        if target != name
    }


def imported(source: str, known: Mapping[str, object]) -> Iterator[str]:
    """The modules among `known` that a source imports when it runs, wherever the statement stands."""
    tree = ast.parse(source)
    typing_only = {id(inner) for node in ast.walk(tree) if _is_for_typing(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if _file_of(name, known) else node.module for name in below]
        else:
            continue
        yield from (found for name in names if (found := _file_of(name, known)))


def _is_for_typing(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _file_of(name: str, known: Mapping[str, object]) -> str | None:
    return next((found for found in (name, f"{name}.__init__") if found in known), None)


def between_children(edges: Edges) -> dict[str, Edges]:
    """Folder -> imports between its children."""
    found: dict[str, Edges] = {}
    for importer, target in edges:
        first, second = importer.split("."), target.split(".")
        depth = next(n for n, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1])
        found.setdefault(".".join(first[:depth]), set()).add((first[depth], second[depth]))
    return found


def cycles(edges: Edges) -> list[set[str]]:
    """Sets of nodes that reach each other."""
    reached: dict[str, set[str]] = {}
    for start in {node for edge in edges for node in edge}:
        open_, seen = [start], set[str]()
        while open_:
            here = open_.pop()
            fresh = {target for importer, target in edges if importer == here} - seen
            seen |= fresh
            open_ += fresh
        reached[start] = seen
    circles = [{other for other in seen if node in reached[other]} for node, seen in reached.items() if node in seen]
    return [circle for number, circle in enumerate(circles) if circle not in circles[:number]]


def cycle_faults(root: Path) -> list[str]:
    return [
        f"{folder or 'the packages'}: {', '.join(sorted(circle))} import each other"
        for folder, edges in sorted(between_children(imports(root)).items())
        for circle in cycles(edges)
    ]


def floor_faults(root: Path) -> list[str]:
    floors = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    found = [f"search/{child} has no floor" for child in sorted(_children(root / "search") - set(floors))]
    for importer, target in sorted(imports(root)):
        package, *below = importer.split(".")
        if package == "search" and target.startswith("search.") and below[0] != target.split(".")[1]:
            here, there = below[0], target.split(".")[1]
            if floors.get(here, 0) <= floors.get(there, 0):
                found.append(f"{importer} imports {target}, which is not below it")
    return found


def _children(folder: Path) -> set[str]:
    packages = (path.parent.name for path in folder.glob("*/__init__.py"))
    return {*packages, *(path.stem for path in folder.glob("*.py"))}


def crowded(root: Path) -> list[str]:
    """Folders with more than MOST_MODULES modules, Python's or the page's; a package's `__init__` does not count."""
    scripts = (path.relative_to(root).with_suffix("").parts for path in (root / "search").rglob("*.js"))
    names = [*modules(root), *map(".".join, scripts)]
    counts = Counter(name.rpartition(".")[0] for name in names if not name.endswith(".__init__"))
    return [f"{folder} has {count} modules" for folder, count in sorted(counts.items()) if count > MOST_MODULES]


def misplaced_tests(root: Path) -> list[str]:
    """Test files of the mirrored folders that stand beside no module: `test_MODULE.py` or `test_MODULE_ASPECT.py`."""
    found = []
    for package in MIRRORED:
        for path in sorted((root / "tests" / package).rglob("test_*.py")):
            folder = root / path.relative_to(root / "tests").parent
            name = path.stem.removeprefix("test_")
            if not any(name == module or name.startswith(f"{module}_") for module in _children(folder)):
                found.append(f"{path.relative_to(root)} names no module of {folder.relative_to(root)}")
    return found


@pytest.mark.parametrize("faults", [cycle_faults, floor_faults, crowded, misplaced_tests])
def test_the_layout(faults: object) -> None:
    assert callable(faults)
    assert len(modules(ROOT)) > 100
    assert faults(ROOT) == []


def write(root: Path, **sources: str) -> Path:
    """A made-up project; module names have `__` for dots."""
    for package in PACKAGES:
        (root / package).mkdir()
        (root / package / "__init__.py").touch()
    for name, source in sources.items():
        path = root.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(source)
    return root


def test_a_cycle_of_modules_is_found(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        pruning__plan="from pruning import graph",
        pruning__graph="def trace():\n    from pruning.knife import cut",
        pruning__knife="import pruning.plan",
        pruning__cost="import pruning.plan",
    )
    assert cycle_faults(root) == ["pruning: graph, knife, plan import each other"]


def test_a_cycle_of_folders_is_found_though_no_modules_form_one(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        search__propose__guide="from search.evaluate.clocks import ticking",
        search__evaluate__clocks="",
        search__evaluate__measured="from search.propose.costs import work",
        search__propose__costs="",
    )
    assert cycle_faults(root) == ["search: evaluate, propose import each other"]


def test_packages_that_import_each_other_are_found(tmp_path: Path) -> None:
    root = write(tmp_path, pruning__plan="import objectives.pareto", objectives__pareto="import pruning.plan")
    assert cycle_faults(root) == ["the packages: objectives, pruning import each other"]


def test_what_only_a_type_checker_imports_does_not_count(tmp_path: Path) -> None:
    guarded = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pruning.graph import Graph"
    root = write(tmp_path, pruning__plan=guarded, pruning__graph="from pruning.plan import Plan")
    assert cycle_faults(root) == []


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("search__config__words", "from search.evaluate.ruler import NAMES"),
        ("search__config__words", "def read():\n    from search.prepare import kitchen"),
        ("search__propose__guided", "import search.evaluate.ruler"),
        ("search__trial", "from search import Study"),
    ],
)
def test_an_import_upwards_or_sideways_is_found(tmp_path: Path, importer: str, source: str) -> None:
    root = write(tmp_path, **{importer: source}, search__evaluate__ruler="", search__prepare__kitchen="")
    assert len(floor_faults(root)) == 1
    assert "which is not below it" in floor_faults(root)[0]


def test_an_import_downwards_and_one_within_a_room_are_fine(tmp_path: Path) -> None:
    downwards = "import search.config.words\nfrom search.evaluate.clocks import ticking\nimport optuna"
    root = write(
        tmp_path, search__evaluate__measured=downwards, search__evaluate__clocks__ticking="", search__config__words=""
    )
    assert floor_faults(root) == []


def test_a_room_without_a_floor_is_found(tmp_path: Path) -> None:
    assert floor_faults(write(tmp_path, search__attic="")) == ["search/attic has no floor"]


def test_a_crowded_folder_is_found(tmp_path: Path) -> None:
    sources = {f"search__propose__part{number}": "" for number in range(MOST_MODULES)}
    assert crowded(write(tmp_path, **sources)) == []
    (tmp_path / "search" / "propose" / "one_more.py").touch()
    assert crowded(tmp_path) == [f"search.propose has {MOST_MODULES + 1} modules"]


def test_a_test_beside_no_module_is_found(tmp_path: Path) -> None:
    root = write(tmp_path, pruning__paths__marks="", pruning__plan="")
    for name in ("paths/test_marks.py", "test_plan_heads.py", "test_plans.py", "test_marks.py", "test_paths.py"):
        path = root / "tests" / "pruning" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert [fault.split()[0] for fault in misplaced_tests(root)] == [
        "tests/pruning/test_marks.py",
        "tests/pruning/test_plans.py",
    ]
