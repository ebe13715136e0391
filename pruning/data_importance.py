"""Data-driven importance: channel scores from gradients of the loss or from activations.

A channel's *gate* is a factor on its filter, 1 in the trained model. The derivative of the loss by the gate is the sum
of gradient times weight over the filter; coupled filters share one gate, so theirs add up before anything is squared.

taylor      mean over batches of |dL/dgate|: first-order change of the loss when the channel goes
            (Molchanov et al., CVPR 2019, arXiv 1906.10771)
fisher      mean over batches of (dL/dgate)^2 (group Fisher pruning, Liu et al., ICML 2021, arXiv 2108.00708)
activation  mean absolute value of the channel after normalisation (after Hu et al., arXiv 1607.03250)
"""

from __future__ import annotations

import copy
import itertools
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from ultralytics.utils import DEFAULT_CFG_DICT, IterableSimpleNamespace

from pruning.errors import PlanError
from pruning.importance import DATA_CRITERIA, Floats, Scores, as_scores, produced
from pruning.recovery.finetune import Recovery, data_trainer, quiet, settings_for, trainer_of
from pruning.recovery.images import Size
from pruning.recovery.judge import evaluation_dataset
from pruning.trace.groups import GroupTable

Loss = Callable[[nn.Module, Any], Tensor]


def ultralytics_loss(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    """Return the training loss (a scalar) of an Ultralytics model on one of its own batches."""
    arguments = getattr(model, "args", None)
    if isinstance(arguments, dict):  # as loaded; the loss reads its weights as attributes
        model.__dict__["args"] = IterableSimpleNamespace(**{**DEFAULT_CFG_DICT, **arguments})
    return model(batch)[0].sum()  # type: ignore[no-any-return]


def labelled_batches(model: nn.Module, data: str | Path, imgsz: Size, count: int = 128, batch: int = 16) -> list[Any]:
    """Load about `count` labelled training images, not augmented, in batches of Ultralytics' loader."""
    if not isinstance(imgsz, int):
        return _rectangular_batches(model, data, imgsz, count, batch)
    with tempfile.TemporaryDirectory() as folder, quiet():
        settings = settings_for(model, data, Recovery(imgsz=imgsz, batch=batch), None, Path(folder))
        trainer = trainer_of(model)(overrides=settings)
        trainer.model, trainer.stride = trainer.get_model(weights=copy.deepcopy(model)), 32
        loader = trainer.get_dataloader(trainer.data["train"], batch_size=batch, rank=-1, mode="val")
        return [trainer.preprocess_batch(one) for one in itertools.islice(loader, max(1, count // batch))]


def _rectangular_batches(model: nn.Module, data: str | Path, imgsz: Size, count: int, batch: int) -> list[Any]:
    """Load the first training images, all in one shape: a loader of Ultralytics' would give each batch its own."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        trainer = data_trainer(copy.deepcopy(model), data, Recovery(imgsz=imgsz, batch=batch), Path(folder))
        dataset = evaluation_dataset(trainer)
        chosen = range(min(count, len(dataset)))
        parts = [chosen[start : start + batch] for start in range(0, len(chosen), batch)]
        return [trainer.preprocess_batch(dataset.collate_fn([dataset[index] for index in part])) for part in parts]


def score_on_batches(
    table: GroupTable,
    model: nn.Module,
    criterion: str,
    batches: Iterable[Any],
    loss: Loss = ultralytics_loss,
) -> Scores:
    """Score every removable channel on `batches` (what `loss` takes). `model` is not changed. Raises PlanError."""
    if criterion not in DATA_CRITERIA:
        raise PlanError(f"importance: {criterion!r} is not measured on data; those are {', '.join(DATA_CRITERIA)}")
    working = copy.deepcopy(model).train()
    for module in working.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()  # the statistics of the trained model stay
    measure = _activations if criterion == "activation" else _gates
    rows = measure(table, working, batches, loss)
    if not rows:
        raise PlanError(f"importance: {criterion} was given no batches")
    stacked = np.stack(rows)
    reduced = np.square(stacked).mean(0) if criterion == "fisher" else np.abs(stacked).mean(0)
    return as_scores(table, criterion, reduced)


def _gates(table: GroupTable, model: nn.Module, batches: Iterable[Any], loss: Loss) -> list[Floats]:
    """Return dL/dgate of every unit, one row per batch."""
    rows = []
    parameters = dict(model.named_parameters())
    for parameter in parameters.values():
        parameter.requires_grad_(parameter.is_floating_point())
    for batch in batches:
        model.zero_grad(set_to_none=True)
        loss(model, batch).backward()
        products = {name: p.detach() * p.grad for name, p in parameters.items() if p.grad is not None}
        row = np.zeros(int(table.starts[-1]))
        for units, filters in produced(table, products):
            np.add.at(row, units, filters.sum(1).double().cpu().numpy())
        rows.append(row)
    return rows


def _activations(table: GroupTable, model: nn.Module, batches: Iterable[Any], loss: Loss) -> list[Floats]:
    """Return the mean |activation| of every unit, one row per batch, from the outputs of normalisation layers."""
    row = np.zeros(int(table.starts[-1]))

    def hook(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def record(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            mean = output.detach().abs().mean(dim=[d for d in range(output.dim()) if d != 1])
            np.add.at(row, table.slots[f"{name}.weight", 0], mean.double().cpu().numpy())

        return record

    handles = [
        module.register_forward_hook(hook(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (f"{name}.weight", 0) in table.slots
    ]
    rows = []
    try:
        for batch in batches:
            row[:] = 0
            with torch.no_grad():
                loss(model, batch)
            rows.append(row.copy())
    finally:
        for handle in handles:
            handle.remove()
    return rows
