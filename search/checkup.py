"""`paretoprune check`: can the study run, what can it reach, how long will it take. Nothing is searched."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.environment import environment
from search.evaluate.prepare import run_isolated
from search.fingerprint import count_images
from search.spec import StudySpec

_FORWARDS = 3
_TRAINING_FACTOR = 3.5
"""Forward and backward pass, teacher included, against one forward pass."""
_CALIBRATION_IMAGES = 256
_FIXED_S = 15.0
"""Per trial: start of the process, export, timing, data loaders."""


def check(spec: StudySpec) -> dict[str, Any]:
    """Facts about a study, as plain data.

    Raises:
        PreparationFailed: the model cannot be traced or timed, with the exit code of the cause.
    """
    with tempfile.TemporaryDirectory(prefix="paretoprune-check-") as folder:
        facts: dict[str, Any] = run_isolated(check_in_child, (spec, Path(folder)), Path(folder))
    return {"environment": environment(), "notes": list(spec.notes()), **facts}


def check_in_child(spec: StudySpec, folder: Path) -> dict[str, Any]:
    """What `check` does, in the process that may crash."""
    import torch

    from objectives.runtimes import export_for_timing
    from pruning import trace
    from pruning.checkpoint import load_model
    from search.evaluate import pruned
    from search.space import Space

    model = load_model(spec.model)
    size = spec.imgsz
    channels = int(getattr(model, "yaml", {}).get("channels", 3))
    graph = trace(model, torch.zeros(1, channels, size, size))
    space = Space.from_graph(graph, spec.space, spec.sizes)
    widest = space.group_ratios(space.uniform(spec.space.ratio[1]))
    plan = graph.plan(widest, importance=spec.space.importance, round_to=spec.space.round_to)
    smallest = plan.apply(model)
    files = [
        export_for_timing(module, folder / f"{name}.onnx", imgsz=size, batch=spec.latency.batch)
        for name, module in (("base", model), ("smallest", smallest))
    ]
    base_ms, least_ms = _times(spec, files, (model, smallest))
    reach = {
        "latency_ms": (base_ms, least_ms),
        "params_m": (graph.cost().params / 1e6, plan.cost().params / 1e6),
        "macs_g": (graph.cost().macs / 1e9, plan.cost().macs / 1e9),
        "size_mb": (files[0].stat().st_size / 1e6, files[1].stat().st_size / 1e6),
    }
    return {
        "groups": [dict(row) for row in pruned.group_rows(graph)],
        "dimensions": {d.name: list(d.groups) for d in space.dimensions},
        "unsupported": list(graph.unsupported),
        "reach": {name: {"base": base, "least": least} for name, (base, least) in reach.items()},
        "budgets": _budgets(spec, {name: least for name, (_, least) in reach.items()}),
        "hours": _hours(spec, _forward_s(model, channels, size, pruned.resolve_device(spec.device))),
    }


def _times(spec: StudySpec, files: list[Path], models: tuple[Any, Any]) -> tuple[float, float]:
    """Milliseconds of the base and of the smallest candidate."""
    from objectives.latency import compare, measuring_lock
    from search.evaluate import pruned

    opened = [
        pruned.open_timed(spec.latency, file, model, spec.imgsz) for file, model in zip(files, models, strict=True)
    ]
    with measuring_lock(pruned.lock_path()):
        found = compare(opened[1], opened[0], cap_s=spec.latency.seconds)
    return found.reference_ms, found.in_ms().value


def _budgets(spec: StudySpec, least: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """For every budget and the constraints: can the costs be met at all. Accuracy is not known before the search."""
    asked = {name: spec.budget(name) for name in spec.budgets}
    if spec.bounds:
        asked["constraints"] = spec.bounds
    return {
        name: {
            "limits": [str(bound) for bound in bounds],
            "reachable": all(least[b.name] <= b.limit for b in bounds if b.op == "<=" and b.name in least),
        }
        for name, bounds in asked.items()
    }


def _forward_s(model: Any, channels: int, imgsz: int, device: str) -> float:
    """Seconds of one image forward, in a batch of four."""
    import torch

    where = device if device in ("cpu", "mps") else f"cuda:{device}"
    batch = torch.zeros(4, channels, imgsz, imgsz, device=where)
    moved = model.to(where).eval()
    with torch.no_grad():
        moved(batch)
        start = time.perf_counter()
        for _ in range(_FORWARDS):
            moved(batch)
        if where.startswith("cuda"):
            torch.cuda.synchronize()
    return (time.perf_counter() - start) / _FORWARDS / len(batch)


def _hours(spec: StudySpec, forward_s: float) -> float | None:
    """A rough estimate of all trials; None where the images cannot be counted."""
    train, val = (count_images(Path(spec.data), split) for split in ("train", "val"))
    if not train or not val:
        return None
    recover = spec.recover.epochs * spec.recover.fraction * train * forward_s * _TRAINING_FACTOR
    trial = recover + (val + _CALIBRATION_IMAGES) * forward_s + spec.latency.seconds + _FIXED_S
    return trial * spec.search.trials / spec.search.workers / 3600
