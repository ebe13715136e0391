"""What is delivered of a trial is of this trial, whatever lies in the folder of its budget."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from objectives.errors import BackendMissing
from pruning.checkpoints.checkpoint import save_model
from search.commands.prune.finetune import finetune
from search.config.spec import load_spec
from search.deliver.picked_trial import PickedTrial
from search.errors import ConfigError, NotComparable
from search.evaluate.data_record import record_data
from search.trial import Candidate, Measurement, Trial, TrialState
from tests.pruning import zoo
from tests.tiny_data import make_tiny_data


def picked(run: Path, number: int, plan: str) -> PickedTrial:
    results: Any = SimpleNamespace(record=SimpleNamespace(path=run), target=None)
    trial = Trial(number, TrialState.COMPLETE, Candidate({}), measurement=Measurement({}, plan=plan))
    return PickedTrial(results, trial, "the smallest", budget="edge")


def test_the_fine_tune_of_an_earlier_pick_is_not_taken_for_that_of_this_one(tmp_path: Path) -> None:
    """More trials, or another budget, make another trial the pick, and the folder bears the budget's name."""
    before, now = picked(tmp_path, 17, "{17}"), picked(tmp_path, 42, "{42}")
    save_model(zoo.build("yolov3-tiny.yaml"), before.tuned, paretoprune_plan="{17}")
    assert before.is_tuned() and before.model() == before.tuned == now.tuned
    assert not now.is_tuned()


@pytest.mark.parametrize(("number", "whose"), [(17, "its fine-tune"), (42, "that of another trial")])
def test_a_fine_tune_of_hours_is_not_replaced(number: int, whose: str, tmp_path: Path) -> None:
    asked = picked(tmp_path, number, f"{{{number}}}")
    save_model(zoo.build("yolov3-tiny.yaml"), asked.tuned, paretoprune_plan="{17}")
    with pytest.raises(ConfigError, match=rf"exists already: {whose}(.|\n)*mv "):
        finetune(asked, {})


def test_the_data_of_a_task_of_ones_own_are_checked_before_an_export(tmp_path: Path) -> None:
    for name in ("best.pt", "ef.py", "clips/a.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"frames")
    spec = load_spec(None, {"model": str(tmp_path / "best.pt"), "data": str(make_tiny_data(tmp_path / "data"))})
    spec = spec.model_copy(update={"data": f"{tmp_path / 'ef.py'}:task@{tmp_path / 'clips'}"})
    asked = picked(tmp_path, 17, "{17}")
    asked.results.spec = spec  # type: ignore[misc]
    record_data(spec, None, tmp_path, is_measured=False)
    (tmp_path / "clips" / "a.npy").write_bytes(b"others")
    with pytest.raises(NotComparable, match=r"other contents: 1 of 1 \(a.npy\)"):
        asked.export("onnx")


@pytest.mark.parametrize(("precision", "words"), [("fp32", "rknn fp16"), ("int8", "rknn int8")])
@pytest.mark.parametrize("is_base", [True, False])
def test_a_network_is_exported_in_its_own_precision_or_in_that_of_the_format(
    is_base: bool, precision: str, words: str
) -> None:
    """A format without float32 has another in its place; the base's precision is the study's."""
    own, other = precision, "int8" if precision == "fp32" else "fp32"
    spec = SimpleNamespace(data="data.yaml", precision=own if is_base else other)
    trial = None if is_base else Trial(17, TrialState.COMPLETE, Candidate({}, precision=own))
    results: Any = SimpleNamespace(spec=spec)
    with pytest.raises(BackendMissing, match=f"exporting {words}"):
        PickedTrial(results, trial, "").export("rknn")
