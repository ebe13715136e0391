"""Iterative pruning as a command: rows on disk, the drop, an interruption that loses nothing, and nonsense refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from objectives.objective import MAIN_FIGURES
from pruning.checkpoints.checkpoint import PRUNED, count_parameters, load_model, save_model
from search.commands.prune import iterative
from search.commands.prune.iterative import IterativePruning, prune_in_child, run_iterative, step_line
from search.errors import ConfigError, Interrupted
from tests.pruning import zoo
from tests.search.conftest import run
from tests.tiny_data import make_tiny_data


def order_for(tiny: Path, out: Path, **keys: Any) -> IterativePruning:
    words = {"model": tiny / "base.pt", "data": tiny / "data" / "data.yaml", "ratio": 0.5, "steps": 3, "imgsz": 64}
    words |= {"out": out, "recover.epochs": 0, "device": "cpu"}
    return IterativePruning.from_keys(words | keys)


def scripted(monkeypatch: pytest.MonkeyPatch, metrics: Iterator[float]) -> None:
    """Validation answers from a list: untrained weights have no accuracy of their own."""
    from objectives.accuracy import measure as accuracy

    def measure(*_: Any, **__: Any) -> Any:
        return SimpleNamespace(figures={"map50_95": SimpleNamespace(value=next(metrics))})

    monkeypatch.setattr(accuracy, "measure_accuracy", measure)
    monkeypatch.setattr(iterative, "run_isolated", lambda function, arguments, *_, **__: function(*arguments))


def test_the_last_step_within_the_drop_is_kept(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, iter([0.5, 0.49, 0.46, 0.3]))
    order = order_for(tiny, tmp_path / "out", max_drop=0.05)
    facts = run_iterative(order)
    rows = facts["steps"]
    assert [row["accepted"] for row in rows] == [True, True, True, False]
    assert [row["drop"] for row in rows] == pytest.approx([0, 0.01, 0.04, 0.2])
    kept = load_model(facts["model"])
    assert count_parameters(kept) == round(rows[2]["params_m"] * 1e6) < round(rows[1]["params_m"] * 1e6)
    assert (order.folder / "pruned.pt").read_bytes() == (order.folder / "steps" / "0002.pt").read_bytes()
    table = list(csv.DictReader(Path(facts["table"]).read_text().splitlines()))
    assert [float(row["metric"]) for row in table] == [row["metric"] for row in rows]
    assert sorted(path.name for path in order.folder.iterdir()) == ["pruned.pt", "steps", "steps.csv", "steps.json"]
    assert kept.yaml["head"][-1][2] == PRUNED, "plain training would build a network of full size"


def test_every_step_has_the_epochs_that_were_asked_for(tiny: Path, tmp_path: Path) -> None:
    """By need is for searches, unless somebody says so."""
    assert order_for(tiny, tmp_path / "out").recover.spend == "equal"
    assert order_for(tiny, tmp_path / "out", **{"recover.spend": "need"}).recover.spend == "need"


def test_nothing_within_the_drop_leaves_the_base(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, iter([0.5, 0.1]))
    facts = run_iterative(order_for(tiny, tmp_path / "out", max_drop=0.05))
    assert Path(facts["model"]).read_bytes() == (tiny / "base.pt").read_bytes()


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = [0.5, 0.49, 0.48, 0.47]
    scripted(monkeypatch, iter(metrics))
    whole = run_iterative(order_for(tiny, tmp_path / "whole"))

    def cut() -> Iterator[float]:
        yield from metrics[:2]
        raise KeyboardInterrupt

    scripted(monkeypatch, cut())
    order = order_for(tiny, tmp_path / "cut")
    with pytest.raises(Interrupted, match="1 of 3 steps are kept"):
        run_iterative(order)
    with pytest.raises(ConfigError, match=r"another run: ratio was 0\.5, now 0\.4"):
        run_iterative(order_for(tiny, tmp_path / "cut", ratio=0.4))
    scripted(monkeypatch, iter(metrics[2:]))
    again = run_iterative(order)
    first, second = (load_model(facts["model"]).state_dict() for facts in (whole, again))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [row["plan"] for row in again["steps"]] == [row["plan"] for row in whole["steps"]]
    with pytest.raises(ConfigError, match="exists already"):
        run_iterative(order)


def test_blocks_go_first_in_a_step_of_their_own(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, iter([0.5, 0.49, 0.48]))
    order = order_for(tiny, tmp_path / "out", steps=1, removed="model.4.m.1,model.6.m.0")
    said: list[str] = []
    facts = run_iterative(order, said.append)
    assert [row["ratio"] for row in facts["steps"]] == [0, 0, 0.5]
    assert facts["steps"][1]["plan"]["removed"] == ["model.4.m.1", "model.6.m.0"]
    model = load_model(facts["model"])
    assert len(model.get_submodule("model.4.m")) == 1  # type: ignore[arg-type]
    assert any(line.startswith("step 2/2: map50_95 0.4800") for line in said)


def test_the_command_trains_validates_and_prints(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = (f"model={tiny / 'base.pt'}", f"data={tiny / 'data' / 'data.yaml'}", "ratio=0.4", "steps=1", "imgsz=64")
    result = run("prune", *words, "recover.batch=6", "device=cpu", "max_drop=1", "-f", "json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["model"] == "base-pruned-0.4-in-1/pruned.pt" and len(facts["steps"]) == 2
    assert "step 1/1: map50_95" in result.stderr
    base, small = load_model(tiny / "base.pt"), load_model(facts["model"])
    assert count_parameters(small) < 0.8 * count_parameters(base)
    again = run("prune", *words, "recover.batch=6", "device=cpu", "max_drop=1")
    assert again.exit_code == 2 and "exists already" in again.stderr


def test_a_line_says_how_long_it_takes() -> None:
    row = {
        "step": 0,
        "figure": "map50_95",
        "metric": 0.5,
        "drop": 0.0,
        "params_m": 3.0,
        "macs_g": 4.0,
        "seconds": 9.0,
        "accepted": True,
    }
    first = {**row, "step": 1, "metric": 0.49, "drop": 0.01, "seconds": 30.0}
    assert "left" not in step_line(row, [row], 4)
    assert step_line(first, [row, first], 4).endswith("(-0.0100), 3.000 M, 4.000 GMACs, 30 s; 2 min left")
    assert step_line({**first, "accepted": False}, [row, first], 4).endswith("beyond max_drop: refused")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("ratio=0.5", "steps=3"), "data= needed to prune in steps"),
        (("data=data.yaml", "steps=3"), "ratio= needed"),
        (("data=data.yaml", "ratio=0.5", "steps=0"), "whole number above 0"),
        (("data=data.yaml", "ratio=0", "steps=3"), "removes nothing"),
        (("data=data.yaml", "ratio=0.5", "max_drop=5"), "not a fall of the metric"),
        (("data=nowhere.yaml", "ratio=0.5", "steps=3"), "no such file"),
        (("data=data.yaml", "ratio=0.5", "step=3"), "did you mean: steps"),
        (("data=data.yaml", "ratio=0.5", "steps=3", "recover.epohcs=3"), "did you mean epochs"),
        (("data=data.yaml", "ratio=0.5", "steps=3", "heads=model.10"), "does not count heads"),
        (("data=data.yaml", "ratio=0.5", "steps=3", "plan=best.pt"), "unknown key 'plan'"),
    ],
)
def test_nonsense_is_refused_at_once(workplace: Path, words: tuple[str, ...], expected: str) -> None:
    before = sorted(workplace.iterdir())
    result = run("prune", "model=best.pt", *words)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and expected in result.stderr
    assert sorted(workplace.iterdir()) == before


def test_a_complete_run_in_the_child_does_nothing_more(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, iter([0.5, 0.3]))
    order = order_for(tiny, tmp_path / "out", max_drop=0.1)
    run_iterative(order)
    (order.folder / "pruned.pt").unlink()  # killed between the refused step and the copy
    prune_in_child(order)
    assert (order.folder / "pruned.pt").read_bytes() == (tiny / "base.pt").read_bytes()


@pytest.mark.parametrize("task", ["segment", "classify"])
def test_steps_are_judged_by_the_figure_of_the_task(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iterative, "run_isolated", lambda function, arguments, *_, **__: function(*arguments))
    data = make_tiny_data(tmp_path / "data", task)
    save_model(zoo.for_tiny_data(f"yolov8n-{'seg' if task == 'segment' else 'cls'}.yaml"), tmp_path / "base.pt")
    keys = {"model": tmp_path / "base.pt", "data": data, "ratio": 0.3, "steps": 1, "out": tmp_path / "out"}
    facts = run_iterative(IterativePruning.from_keys({**keys, "recover.epochs": 0, "device": "cpu"}))
    assert facts["asked"]["imgsz"] == 64, "read from the checkpoint"
    assert {row["figure"] for row in facts["steps"]} == {MAIN_FIGURES[task]}
