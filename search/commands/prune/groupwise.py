"""`paretoprune prune ... groups=model.*.m.*.cv1 ratio=0.15 max_drop=0.02`: greedy pruning, group by group.

A group that costs more accuracy than allowed stays whole, and the next one is tried. The folder holds

    groups.csv, groups.json   one row for the unpruned model and one per group: the record
    pruned.pt, plan.json      all groups that were accepted; batch norms corrected, not fine-tuned
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from objectives.held_folder import held_folder
from search.config.overrides import (
    Count,
    Data,
    Drop,
    File,
    InputSize,
    Names,
    Order,
    Place,
    Seed,
    Share,
    Word,
    trained_size,
)
from search.errors import ConfigError
from search.run_folder.atomic import csv_text, write_atomic
from search.workers.run_isolated import run_isolated

_COLUMNS = ("group", "before", "width", "figure", "metric", "drop", "accepted", "params_m", "macs_g")


class GroupwisePruning(Order):
    """Patterns of groups, the ratio to prune each by, and the allowed fall of the metric."""

    example = "paretoprune prune model=best.pt data=data.yaml groups=model.*.m.*.cv1 ratio=0.15 max_drop=0.02"
    lacking = "{keys} needed to prune group by group"

    model: File
    data: Data
    groups: Names
    ratio: Share
    max_drop: Drop | None = None
    imgsz: InputSize = Field(default_factory=trained_size)
    round_to: Count = 8
    importance: Word = "l2"
    device: Word = "auto"
    seed: Seed = 0
    out: Place | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        empty = [f"{key}=" for key in ("groups", "ratio") if not getattr(self, key)]
        if empty:
            raise ConfigError(self.lacking.format(keys=" and ".join(empty)), expected=self.example)
        return self

    @property
    def folder(self) -> Path:
        """Output folder."""
        return self.out or Path(f"{self.model.stem}-pruned-{self.ratio:g}-one-by-one")


def prune_groups(order: GroupwisePruning) -> dict[str, Any]:
    """Try every group; return the rows, the result of all accepted groups, and the paths written.

    Raises:
        ConfigError: pruned.pt exists already, a pattern matches nothing, or the folder is not writable.
        PreparationFailed: with the exit code of the cause.
    """
    target = order.folder / "pruned.pt"
    if target.exists():
        raise ConfigError(f"{target} exists already", expected="a new folder: out=FOLDER")
    with held_folder("groups") as work:
        facts: dict[str, Any] = run_isolated(prune_in_child, (order, work), work, log_stays=False)
    return facts


def prune_in_child(order: GroupwisePruning, work: Path) -> dict[str, Any]:
    """Run `prune_groups` in a quiet child process."""
    from objectives.objective import MAIN_FIGURES
    from pruning import trace
    from pruning.checkpoints.checkpoint import load_model
    from pruning.groupwise import prune_one_by_one
    from search.config.inputs.dataset import check_images
    from search.evaluate.pruning_evaluator import task_of
    from search.evaluate.workload import example_input
    from search.prepare.preflight import check_data
    from search.space import chosen_groups

    model = load_model(order.model)
    check_images(check_data(model, order.data))
    graph = trace(model, example_input(model, order.imgsz))
    names = [group.name for group in chosen_groups(tuple(graph.free), order.groups, "groups=")]
    figure = MAIN_FIGURES[task_of(model)]
    judge = _Judge(order, work, figure)
    attempts = prune_one_by_one(
        model, graph, names, order.ratio, judge.measure,
        max_drop=order.max_drop, repair=judge.repair, importance=order.importance, round_to=order.round_to,
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    last = whole = next(attempts)  # the model itself
    for attempt in (whole, *attempts):
        rows.append(_row(attempt, figure, whole.metric))
        last = attempt if attempt.accepted else last
    return _written(order, rows, last, graph)


class _Judge:
    """Repairs and validates the model of one attempt."""

    def __init__(self, order: GroupwisePruning, work: Path, figure: str) -> None:
        from search.evaluate import pruning_evaluator

        self.order, self.work, self.figure = order, work, figure
        self.device = pruning_evaluator.resolve_device(order.device)
        self._base: tuple[Any, Any] | None = None

    def repair(self, model: Any, origin: Any) -> Any:
        """Correct batch norms, without fine-tuning."""
        from pruning.recovery.repair import correct_statistics

        if self._base is None:
            self._base = self._prepared(model, origin.base)
        return correct_statistics(model, origin.plan, *self._base).model

    def _prepared(self, model: Any, base: Any) -> tuple[Any, Any]:
        """Return what all attempts share: the moments of the base on a few images, and the judge."""
        from pruning.recovery.bn_calibration import BaseMoments, calibration_batches
        from pruning.recovery.finetune import Recovery, data_trainer
        from pruning.recovery.judge import TrainingLoss
        from pruning.recovery.repair import calibration_images
        from search.evaluate.pruning_evaluator import task_of

        order = self.order
        how = Recovery(epochs=0, imgsz=order.imgsz, device=self.device, seed=order.seed)
        judge = TrainingLoss.of(data_trainer(model, order.data, how, self.work / "repair"))
        count, task = calibration_images(order.imgsz), task_of(model)
        images = calibration_batches(order.data, order.imgsz, count, task=task, seed=order.seed)
        return BaseMoments(base, images), judge

    def measure(self, model: Any) -> float:
        """Return the task's main figure on the validation split."""
        from objectives.accuracy.measure import measure_accuracy

        keys: dict[str, Any] = {"imgsz": self.order.imgsz, "device": self.device, "seed": self.order.seed}
        found = measure_accuracy(model, self.order.data, work_dir=self.work, resamples=2, **keys)
        return found.figures[self.figure].value


def _row(attempt: Any, figure: str, base: float) -> dict[str, Any]:
    return {
        "group": attempt.group or "",
        "before": attempt.before,
        "width": attempt.width,
        "figure": figure,
        "metric": attempt.metric,
        "drop": base - attempt.metric,
        "accepted": attempt.accepted,
        "params_m": attempt.params / 1e6,
        "macs_g": attempt.macs / 1e9,
    }


def _written(order: GroupwisePruning, rows: list[dict[str, Any]], last: Any, graph: Any) -> dict[str, Any]:
    from pruning.checkpoints.checkpoint import save_model

    plan = last.plan or graph.plan(0.0)
    cost, folder = plan.cost(), order.folder
    facts = {
        "model": str(folder / "pruned.pt"),
        "base": str(order.model),
        "data": str(order.data),
        "table": str(folder / "groups.csv"),
        "groups": rows,
        "params_m": {"before": rows[0]["params_m"], "after": cost.params / 1e6},
        "macs_g": {"before": rows[0]["macs_g"], "after": cost.macs / 1e9},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "groups.json", json.dumps(facts, indent=1) + "\n")
        table = csv_text(_COLUMNS, ([row[key] for key in _COLUMNS] for row in rows))
        write_atomic(folder / "groups.csv", table, durable=False)
        write_atomic(folder / "plan.json", plan.to_json())
        save_model(last.model, folder / "pruned.pt", paretoprune_plan=plan.to_json())
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror}", where="out=") from error
    return facts
