"""The wheel works alone: it has every file of the packages, and nothing else of the repository is needed to search."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator, Mapping
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest

from search.run_folder.lock import RunLock
from tests.pruning import zoo
from tests.tiny_data import make_tiny_data
from tests.waiting import until

ROOT = Path(__file__).parent.parent
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = tuple(name.rstrip("*") for name in SETUP["tool"]["setuptools"]["packages"]["find"]["include"])
"""Those of the project; one that another imports and that is not here is found as undeclared."""
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
LEFT_OUT = ("__pycache__",)


def files_of(root: Path) -> set[str]:
    """The files of the packages, as paths from the root."""
    found = (path for package in PACKAGES for path in (root / package).rglob("*") if path.is_file())
    return {str(path.relative_to(root)) for path in found if not set(LEFT_OUT) & set(path.parts)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what it is made of, with what an earlier build or import may have left."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE", *files_of(ROOT)):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    (tree / "search" / "__pycache__").mkdir()
    (tree / "search" / "__pycache__" / "old.cpython-311.pyc").touch()
    built = subprocess.run([sys.executable, "-c", BUILD, str(out)], cwd=tree, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (made,) = out.glob("*.whl")
    return made


def inside(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_has_every_file_of_the_packages_and_no_other(wheel: Path) -> None:
    packed = {name for name in inside(wheel) if ".dist-info/" not in name}
    assert packed == files_of(ROOT)
    assert {"search/py.typed", "search/results/snapshot.schema.json", "search/present/page/page.html"} <= packed


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (said,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    facts = Parser().parsestr(archive.read(said).decode())
    assert facts["Requires-Python"] == ">=3.11" and facts["License-Expression"] == "AGPL-3.0-only"
    assert facts["Description-Content-Type"] == "text/markdown" and "ParetoPrune" in str(facts.get_payload())
    assert said.replace("METADATA", "licenses/LICENSE") in archive.namelist()
    assert b"paretoprune = search.cli:main" in archive.read(said.replace("METADATA", "entry_points.txt"))


# --- what it imports is what it says that it needs ---

BY_OTHERS = {
    "torchvision": "ultralytics",
    "cv2": "ultralytics",
    "PIL": "ultralytics",
    "psutil": "ultralytics",
    "pydantic_core": "pydantic",
    "sqlalchemy": "optuna",
    "pyarrow": "ray[tune]",
    "starlette": "fastapi",
}
"""What a declared package brings: module -> package."""
NAMES = {
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "typing_extensions": "typing-extensions",
    "mlflow": "mlflow-skinny",
    "pynvml": "nvidia-ml-py",
}
NAMES |= {"ai_edge_litert": "ai-edge-litert"}


def modules_imported(root: Path) -> set[str]:
    trees = (ast.parse((root / name).read_text()) for name in files_of(root) if name.endswith(".py"))
    return {name for tree in trees for node in ast.walk(tree) for name in _imported(node)}


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module.partition(".")[0]


def undeclared(modules: set[str], project: Mapping[str, object]) -> list[str]:
    """Modules that neither Python, nor the packages themselves, nor a dependency or an extra for users brings."""
    extras = project["optional-dependencies"]
    assert isinstance(extras, dict)
    lists = [
        project["dependencies"],
        *(lines for name, lines in extras.items() if name not in ("dev", "bench", "docs")),
    ]
    lines = [line for some in lists for line in some]  # type: ignore[attr-defined]
    declared = {re.split(r"[\s<>=\[;]", line)[0].lower() for line in lines} | {"ray[tune]"}
    foreign = modules - set(sys.stdlib_module_names) - set(PACKAGES)
    return sorted(name for name in foreign if BY_OTHERS.get(name, NAMES.get(name, name)).lower() not in declared)


def test_what_it_imports_is_declared() -> None:
    assert undeclared(modules_imported(ROOT), SETUP["project"]) == []
    assert undeclared({"torch", "json", "pytest", "tests"}, SETUP["project"]) == ["pytest", "tests"]


# --- in an environment of its own ---


def environment(folder: Path, wheel: Path) -> Path:
    """An environment with the wheel, and with the packages of this one, but without its link to the repository.

    Returns the folder of its commands.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    here = Path(str(metadata.distribution("torch").locate_file("")))
    (site / "packages.pth").write_text(f"{here}\n")  # the .pth files there, such as that of the link, are not read
    order = ["--python", str(folder / "bin" / "python"), "install", "--quiet", "--no-index", "--no-deps", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *order], check=True)
    return folder / "bin"


@pytest.mark.slow
def test_a_search_with_nothing_but_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """In a folder of the user's that happens to have files of the packages' names."""
    from pruning.checkpoints.checkpoint import save_model

    commands = environment(tmp_path / "env", wheel)
    work = tmp_path / "work"
    work.mkdir()
    save_model(zoo.for_tiny_data("yolov8n.yaml"), work / "best.pt")
    shutil.copy(make_tiny_data(tmp_path / "data"), work / "data.yaml")
    for name in ("pruning.py", "search.py"):
        (work / name).write_text("raise RuntimeError('the file of the user')\n")
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST", "COV_"))}

    def run(*words: str) -> str:
        done = subprocess.run(
            [str(commands / words[0]), *words[1:]], cwd=work, env=plain, capture_output=True, text=True, timeout=500
        )
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    place = run("python", "-P", "-c", "import search; print(search.__file__)")
    assert Path(place.strip()).is_relative_to(tmp_path / "env")
    assert run("paretoprune", "--version").startswith("paretoprune 0.")
    run("paretoprune", "init", "model=best.pt", "data=data.yaml")
    assert "groups" in run("paretoprune", "check", "study.yaml", "device=cpu", "latency.seconds=0.2")
    cheap = ["search.sampler=random", "recover.epochs=0", "latency.seconds=0.2", "device=cpu", "baselines=[]"]
    run("paretoprune", "search", "study.yaml", "search.trials=1", *cheap)
    run("paretoprune", "search", "study.yaml", "search.trials=2", *cheap, "--detach")
    lock = RunLock(work / "runs" / "prune" / "best" / "run.lock")
    until(lambda: not lock.is_held(), "the search without a terminal did not end")
    assert len(json.loads(run("paretoprune", "ls", "runs/prune/best", "-f", "json"))) == 2
    run("paretoprune", "report", "runs/prune/best")
    assert "<script" in (work / "runs" / "prune" / "best" / "report.html").read_text()
