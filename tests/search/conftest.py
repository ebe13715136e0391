"""Studies without a model: the known front, in the calling process, on a simulated clock."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from search.cli import app
from search.evaluate.evaluator import Evaluator
from search.prepare.prepared import FinalMeasurements
from search.study import Parts, Study
from search.testing.known_front import KnownFront, KnownFrontEvaluator
from search.testing.simulated import InlineEngine, SimulatedClock

MakeStudy = Callable[..., Study]
SearchOnce = Callable[..., Study]


def run(*words: str) -> Result:
    """The command line in this process, so that all tests share one fork server."""
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "80", "TERM": "dumb"})


@pytest.fixture(scope="session", autouse=True)
def _migrations_are_read_once() -> Iterator[None]:
    """Whenever a study is opened, Optuna has Alembic execute its ten migrations three times over: more than half of
    what a short search costs."""
    from alembic.script import base

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base.util, "load_python_file", functools.cache(base.util.load_python_file))
        yield


@pytest.fixture(scope="session", autouse=True)
def _nobody_waits_for_the_disk() -> Iterator[None]:
    """Tests end processes and cut them short, but no power: what the kernel has is not lost. A search syncs about
    twenty times a trial, which on a slow disk is longer than the trial."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def lightly(connection: Any, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous=OFF")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        event.listen(Engine, "connect", lightly)
        yield
        event.remove(Engine, "connect", lightly)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with base.pt (an untrained yolov8n), other.pt (of three classes) and data/."""
    from tests.tiny_data import CLASSES, make_tiny_data

    folder = tmp_path_factory.mktemp("tiny")
    _save_tiny(folder / "base.pt", CLASSES)
    _save_tiny(folder / "other.pt", ("a", "b", "c"))
    make_tiny_data(folder / "data")
    return folder


def _save_tiny(path: Path, classes: tuple[str, ...]) -> None:
    import torch
    from ultralytics.nn.tasks import DetectionModel

    from pruning.checkpoints.checkpoint import save_model

    torch.manual_seed(0)
    model: Any = DetectionModel("yolov8n.yaml", nc=len(classes), verbose=False)
    model.names, model.args, model.task = dict(enumerate(classes)), {}, "detect"
    save_model(model, path)


@pytest.fixture(scope="session")
def planned_once(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from .planned import make_planned_run

    place = tmp_path_factory.mktemp("planned")
    make_planned_run(tiny / "base.pt", tiny / "data" / "data.yaml", project=str(place))
    return place


@pytest.fixture
def planned(planned_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A finished run of real plans in runs/prune/planned of the working folder (see planned.py)."""
    shutil.copytree(planned_once, tmp_path / "runs" / "prune")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "search.commands.timing.bench.lock_path", lambda: tmp_path / "measuring.lock"
    )  # nobody else's turn matters
    return Study.load("runs/prune/planned")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model, data and a study file."""
    (tmp_path / "best.pt").write_bytes(b"weights")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "one.png").write_bytes(b"pixels")
    (tmp_path / "data.yaml").write_text("path: .\ntrain: images\nval: images\n")
    (tmp_path / "study.yaml").write_text("model: best.pt\ndata: data.yaml\nname: known\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def make_study(workplace: Path) -> MakeStudy:
    """A study of the known front that runs in this process; `cut_at` cuts the power at that trial."""

    def make(
        evaluator: Evaluator | None = None,
        cut_at: int | None = None,
        final: FinalMeasurements | None = None,
        clock: SimulatedClock | None = None,
        **overrides: Any,
    ) -> Study:
        measuring, clock = evaluator or KnownFrontEvaluator(), clock or SimulatedClock()
        parts = Parts(
            prepare=KnownFront(measuring, final=final),
            engine=lambda spec, prepared: InlineEngine(clock, spec.search.workers, cut_at),
            clock=clock,
        )
        return Study("study.yaml", parts=parts, **overrides)

    return make


@pytest.fixture
def search_once(make_study: MakeStudy, workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchOnce:
    """`make_study(**overrides).search()` for tests of what comes after it: the same search is copied, not repeated."""

    def search(**overrides: Any) -> Study:
        kept = tmp_path_factory.getbasetemp() / f"searched-{hashlib.sha256(repr(overrides).encode()).hexdigest()[:16]}"
        study, place = make_study(**overrides), kept.with_suffix(".place")
        if not place.is_file():
            shutil.copytree(study.search().record.path, kept)
            place.write_text(str(workplace))
            return study
        shutil.copytree(kept, study.record.path)
        for path in (*study.record.path.rglob("*.yaml"), *study.record.path.rglob("*.json")):
            path.write_text(path.read_text().replace(place.read_text(), str(workplace)))
        return study

    return search
