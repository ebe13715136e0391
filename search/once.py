"""One model at a time, without a search: prune by one ratio, or fine-tune one trial in full."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.atomic import write_atomic
from search.errors import ConfigError, near_miss
from search.evaluate.prepare import run_isolated
from search.picked import PickedTrial
from search.spec import RecoverSpec
from search.trial import Measurement

PRUNE_KEYS = ("model", "ratio", "imgsz", "round_to", "importance", "out")


@dataclass(frozen=True)
class OnePlan:
    """What `paretoprune prune` was asked for."""

    model: Path
    ratio: float
    imgsz: int = 640
    round_to: int = 8
    importance: str = "l2"
    out: Path | None = None

    @classmethod
    def from_keys(cls, keys: Mapping[str, Any]) -> OnePlan:
        """From `key=value` pairs.

        Raises:
            ConfigError: an unknown or missing key, or a model that is not there.
        """
        for key in keys:
            if key not in PRUNE_KEYS:
                known = ", ".join(PRUNE_KEYS)
                raise ConfigError(
                    f"unknown key {key!r}", where="command line", expected=known, near=near_miss(key, PRUNE_KEYS)
                )
        if "model" not in keys or "ratio" not in keys:
            raise ConfigError("model= and ratio= are needed", expected="paretoprune prune model=best.pt ratio=0.3")
        paths = {key: Path(str(keys[key])) for key in ("model", "out") if key in keys}
        if not paths["model"].is_file():
            raise ConfigError(f"no such file: {paths['model']}", where="model=")
        if not isinstance(keys["ratio"], int | float):
            raise ConfigError(f"{keys['ratio']!r} is not a ratio", where="ratio=", expected="0 to below 1")
        return cls(**{**keys, **paths, "ratio": float(keys["ratio"])})

    @property
    def folder(self) -> Path:
        """Where pruned.pt and plan.json go."""
        return self.out or Path(f"{self.model.stem}-pruned-{self.ratio:g}")


def prune_once(order: OnePlan) -> dict[str, Any]:
    """Write pruned.pt and plan.json; returns parameters and MACs before and after.

    Raises:
        ConfigError: pruned.pt is there already. PreparationFailed: with the exit code of the cause.
    """
    target = order.folder / "pruned.pt"
    if target.exists():
        raise ConfigError(f"{target} exists already", expected="a new folder: out=FOLDER")
    order.folder.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = run_isolated(prune_in_child, (order,), order.folder)
    for name in ("prepare.log", "error.txt"):
        (order.folder / name).unlink(missing_ok=True)
    return facts


def prune_in_child(order: OnePlan) -> dict[str, Any]:
    """What `prune_once` does, in a quiet process of its own."""
    import torch

    from pruning import trace
    from pruning.checkpoint import load_model, save_model

    model = load_model(order.model)
    channels = int(getattr(model, "yaml", {}).get("channels", 3))
    graph = trace(model, torch.zeros(1, channels, order.imgsz, order.imgsz))
    plan = graph.plan(order.ratio, importance=order.importance, round_to=order.round_to)
    save_model(plan.apply(model), order.folder / "pruned.pt", paretoprune_plan=plan.to_json())
    write_atomic(order.folder / "plan.json", plan.to_json())
    before, after = graph.cost(), plan.cost()
    return {
        "model": str(order.folder / "pruned.pt"),
        "plan": str(order.folder / "plan.json"),
        "params_m": {"before": before.params / 1e6, "after": after.params / 1e6},
        "macs_g": {"before": before.macs / 1e9, "after": after.macs / 1e9},
    }


def finetune(picked: PickedTrial, epochs: int, train: Mapping[str, Any]) -> Measurement:
    """Full recovery of a trial on all training images; writes finetuned.pt beside its deliverables.

    A trial without weights on disk is pruned again from its plan.

    Args:
        train: further keys of YOLO.train.

    Raises:
        ConfigError: the base, or a trial without a plan. PreparationFailed: with the exit code of the cause.
    """
    trial = picked.trial
    if trial is None or trial.measurement is None or trial.measurement.plan is None:
        raise ConfigError(f"{picked.name} has no plan to fine-tune", expected="a complete trial")
    picked.folder.mkdir(parents=True, exist_ok=True)
    try:
        weights: Path | None = picked.weights()
    except ConfigError:
        weights = None
    spec = picked.study.spec
    recover = RecoverSpec.model_validate({**spec.recover.model_dump(), "epochs": epochs, "fraction": 1.0, **train})
    arguments = (spec.model_copy(update={"recover": recover}), trial.measurement.plan, weights, picked.imgsz)
    result: Measurement = run_isolated(finetune_in_child, (*arguments, picked.folder), picked.folder)
    return result


def finetune_in_child(spec: Any, plan: str, weights: Path | None, imgsz: int, folder: Path) -> Measurement:
    """What `finetune` does, in a quiet process of its own."""
    from objectives.accuracy import measure_accuracy
    from pruning import Plan
    from pruning.calibration import calibration_batches, recalibrate
    from pruning.checkpoint import load_model, save_model
    from search.evaluate import pruned
    from search.evaluate.phases import Phases

    phase = Phases(folder, ("recover", "accuracy"))
    seed, device = spec.search.seed, pruned.resolve_device(spec.device)
    if weights is not None:
        model = load_model(weights)
    else:
        model = Plan.from_json(plan).apply(load_model(spec.model))
        recalibrate(model, calibration_batches(spec.data, imgsz, task=pruned.task_of(model), seed=seed))
    with phase("recover"):
        model = pruned.recover_by(spec, model, device, imgsz, seed, folder / "recover", phase)
    with phase("accuracy"):
        accuracy = measure_accuracy(model, spec.data, imgsz=imgsz, device=device, work_dir=folder / "accuracy")
    save_model(model, folder / "finetuned.pt", paretoprune_plan=plan)
    return Measurement(accuracy.figures, seconds=phase.seconds, per_class=accuracy.per_class)
