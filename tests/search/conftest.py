"""Studies without a model: the known front, in the calling process, on a simulated clock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.evaluate.evaluator import Evaluator
from search.study import Parts, Study
from search.testing import InlineEngine, KnownFront, KnownFrontEvaluator, SimulatedClock

MakeStudy = Callable[..., Study]


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

    def make(evaluator: Evaluator | None = None, cut_at: int | None = None, **overrides: Any) -> Study:
        measuring = evaluator or KnownFrontEvaluator()
        clock = SimulatedClock()
        parts = Parts(
            prepare=KnownFront(measuring),
            engine=lambda spec, prepared: InlineEngine(measuring, clock, spec.search.workers, cut_at),
            clock=clock,
        )
        return Study("study.yaml", parts=parts, **overrides)

    return make
