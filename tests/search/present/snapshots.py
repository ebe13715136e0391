"""A search that could have been: a snapshot of any size, made from a seed."""

from __future__ import annotations

import math
import random
from typing import Any

from search.results.schema import FORMAT

GROUPS = [
    ("0-2", [("model.0", 16), ("model.1", 32), ("model.2.cv1", 32), ("model.2.m.0.cv1", 16), ("model.2.cv2", 32)]),
    (
        "3-4",
        [("model.3", 64), ("model.4.cv1", 64), ("model.4.m.0.cv1", 32), ("model.4.m.1.cv1", 32), ("model.4.cv2", 64)],
    ),
    (
        "5-6",
        [
            ("model.5", 128),
            ("model.6.cv1", 128),
            ("model.6.m.0.cv1", 64),
            ("model.6.m.1.cv1", 64),
            ("model.6.cv2", 128),
        ],
    ),
    (
        "7-9",
        [
            ("model.7", 256),
            ("model.8.cv1", 256),
            ("model.8.m.0.cv1", 128),
            ("model.8.cv2", 256),
            ("model.9.cv1", 128),
            ("model.9.cv2", 256),
        ],
    ),
    (
        "10-15",
        [
            ("model.12.cv1", 128),
            ("model.12.m.0.cv1", 64),
            ("model.12.cv2", 128),
            ("model.15.cv1", 64),
            ("model.15.m.0.cv1", 32),
            ("model.15.cv2", 64),
        ],
    ),
    (
        "16-21",
        [
            ("model.16", 64),
            ("model.18.cv1", 128),
            ("model.18.m.0.cv1", 64),
            ("model.18.cv2", 128),
            ("model.19", 128),
            ("model.21.cv1", 256),
            ("model.21.m.0.cv1", 128),
            ("model.21.cv2", 256),
        ],
    ),
    (
        "head",
        [
            (f"model.22.cv{branch}.{level}.{conv}", 64 if branch == 2 else 80)
            for branch in (2, 3)
            for level in range(3)
            for conv in (0, 1)
        ],
    ),
]
CAUSES = [
    "TimeoutError: the trial ran past 900 s and was ended\nlast line of train.log: epoch 2/3",
    "OutOfMemory: CUDA out of memory, 1.20 GiB asked for\nat recover, batch 32",
    "RecoveryError: the loss became NaN in epoch 1",
]


def build(count: int = 60, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A finished search of `count` trials on a yolov8n-like model; `changes` replace top-level keys."""
    chance = random.Random(seed)
    groups = [
        {"name": name, "size": size, "stage": stage, "frozen": None, "tie": None}
        for stage, members in GROUPS
        for name, size in members
    ]
    groups.append({"name": "model.22.dfl", "size": 16, "stage": "head", "frozen": "fixed by the head", "tie": None})
    trials = [_trial(number, groups, chance) for number in range(count)]
    _mark_front(trials)
    front = [row["id"] for row in trials if row["on_front"]]
    return {
        "format": FORMAT,
        "name": "drone-5ms",
        "state": "finished",
        "created": "2025-11-22T21:04:11+00:00",
        "updated": "2025-11-23T06:12:40+00:00",
        "version": "0.1.0",
        "environment": {
            "machine": "workstation",
            "cpu": "AMD Ryzen 7 5800X, 1 thread",
            "python": "3.11.2",
            "torch": "2.15.0",
            "ultralytics": "8.4.190",
            "onnxruntime": "1.32.0",
        },
        "study": {
            "model": "best.pt",
            "data": "drone.yaml",
            "imgsz": 640,
            "name": "drone-5ms",
            "search": {"engine": "optuna", "sampler": "auto", "trials": count, "hours": 9, "workers": 1, "seed": 0},
            "budgets": {"edge": {"latency_ms": 5}},
            "constraints": {"latency_ms": "<=8"},
        },
        "objectives": [
            {"name": "map50_95", "unit": "fraction", "direction": "max", "title": "mAP50-95"},
            {"name": "latency_ms", "unit": "ms", "direction": "min", "title": "latency"},
            {"name": "params_m", "unit": "M", "direction": "min", "title": "parameters"},
        ],
        "constraints": [{"name": "latency_ms", "op": "<=", "limit": 8}],
        "budgets": {"edge": {"latency_ms": 5}},
        "progress": {
            "done": sum(row["state"] == "complete" for row in trials),
            "failed": sum(row["state"] == "failed" for row in trials),
            "running": 0,
            "total": count,
            "seconds": 32909.0,
            "eta_s": None,
        },
        "base": {"figures": _figures(0.508, 9.1, 3.16, 4.43, chance), "per_class": {"car": 0.61, "person": 0.41}},
        "groups": groups,
        "trials": trials,
        "front": front,
        "hypervolume": _hypervolume(trials),
        "picks": _picks(trials, front),
        "verdict": "Pruning was worth it: trial 31 runs 1.9 times faster than the base for 1.1 mAP points.",
        "target": None,
        "targets": [],
        "on_targets": {},
        "rungs": [],
        "latency_model": None,
        "baselines": [],
        "end": None,
        **changes,
    }


def _estimate(value: float, half: float = 0.0) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def _figures(
    accuracy: float, latency: float, params: float, macs: float, chance: random.Random
) -> dict[str, dict[str, float]]:
    return {
        "map50_95": _estimate(accuracy, 0.004),
        "map50": _estimate(min(1.0, accuracy * 1.45), 0.005),
        "latency_ms": _estimate(latency, 0.012 * latency * chance.uniform(0.5, 1.5)),
        "params_m": _estimate(params),
        "macs_g": _estimate(macs),
        "size_mb": _estimate(params * 2.03),
    }


def _trial(number: int, groups: list[dict[str, Any]], chance: random.Random) -> dict[str, Any]:
    strength = chance.uniform(0.02, 0.75)
    ratios = {
        group["name"]: min(0.8, max(0.0, chance.gauss(strength, 0.14))) for group in groups if not group["frozen"]
    }
    widths = {
        group["name"]: max(8, round(group["size"] * (1 - ratios.get(group["name"], 0)) / 8) * 8) for group in groups
    }
    luck = chance.expovariate(28)
    accuracy = max(0.004, 0.513 - 0.02 * strength - 0.42 * strength**3 - luck)
    latency = 9.1 * (0.22 + 0.78 * (1 - strength) ** 1.25) * chance.uniform(0.97, 1.1)
    params = 3.16 * (1 - strength) ** 1.6 * chance.uniform(0.92, 1.08)
    failed = chance.random() < 0.06
    row = {
        "id": str(number),
        "number": number,
        "exported": False,
        "state": "failed" if failed else "complete",
        "source": chance.choice(["tpe", "knapsack", "uniform", "warm start"]),
        "feasible": not failed and latency <= 8,
        "on_front": False,
        "same_as": None,
        "candidate": {"ratios": ratios, "imgsz": 640, "precision": "fp32", "removed": []},
        "seconds": {"prune": 0.4, "recover": chance.uniform(120, 240), "accuracy": 11.0, "latency": 4.0},
        "figures": {} if failed else _figures(accuracy, latency, params, params * 1.4, chance),
        "widths": {} if failed else widths,
        "error": chance.choice(CAUSES) if failed else None,
        "breaks": [],
        "per_class": {},
        "removed": [],
        "notes": [],
        "timing": {},
        "seeds": 1,
        "epochs": 1.0,
        "estimated": False,
        "expected": {},
        "score": None,
    }
    return row


def _mark_front(trials: list[dict[str, Any]]) -> None:
    rows = [row for row in trials if row["feasible"]]
    names = ("latency_ms", "params_m")

    def beats(left: dict[str, Any], right: dict[str, Any]) -> bool:
        a, b = left["figures"], right["figures"]
        return a["map50_95"]["value"] > b["map50_95"]["value"] and all(a[n]["value"] < b[n]["value"] for n in names)

    for row in rows:
        row["on_front"] = not any(beats(other, row) for other in rows)


def _hypervolume(trials: list[dict[str, Any]]) -> list[dict[str, float]]:
    points, best = [], 0.0
    for row in trials:
        if row["feasible"]:
            best += (row["on_front"] + 0.15) * math.exp(-row["number"] / max(12, len(trials) / 4)) * 0.06
        points.append({"trial": row["number"], "value": round(best, 5)})
    return points


def _picks(trials: list[dict[str, Any]], front: list[str]) -> dict[str, Any]:
    fitting = [point for point in front if trials[int(point)]["figures"]["latency_ms"]["value"] <= 5]
    if not fitting:
        return {}
    best = max(fitting, key=lambda point: float(trials[int(point)]["figures"]["map50_95"]["value"]))
    return {
        "edge": {
            "trial": best,
            "sentence": "The most accurate trial within 5 ms; nothing simpler lies within its error.",
        }
    }
