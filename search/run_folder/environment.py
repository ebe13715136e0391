"""The environment of a run: the part of env.json that affects figures."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

from search.errors import NotComparable

_SMALL_BOARDS = ("ncnn", "mnn", "ai-edge-litert", "executorch")
MEASURING = ("paretoprune", "torch", "ultralytics", "onnxruntime", "openvino", "tensorrt", *_SMALL_BOARDS)
"""Packages that make a candidate's network or its figures: under other versions trials are not comparable."""
_PACKAGES = (*MEASURING, "optuna", "numpy")
REBUILT = "study.db"
"""Key of the note that study.db was rebuilt from the trial folders."""
EARLIER = "other versions"
"""Key of what another part of a run was measured with, where somebody went on with different versions knowingly."""


def environment() -> dict[str, str]:
    """Return machine, processor, Python and package versions. Imports none of the packages."""
    found = {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "cpu": _cpu(),
        "python": platform.python_version(),
    }
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def changes(before: dict[str, str], now: dict[str, str]) -> tuple[str, ...]:
    """Describe the differences as `cpu: A, now B`: figures from before and now may not be comparable."""
    keys = [key for key in before if key in now and before[key] != now[key]]
    return tuple(f"{key}: {before[key]}, now {now[key]}" for key in keys)


def check_versions(before: dict[str, str], now: dict[str, str], run: Path) -> None:
    """Raise NotComparable where a run would go on with other versions of what measures."""
    changed = _changed(before, now)
    if not changed:
        return
    rows = "\n".join(f"  {name}: {before[name]} in the run, {now.get(name, 'not installed')} now" for name in changed)
    pins = " ".join(f"{name}=={before[name]}" for name in changed)
    raise NotComparable(
        f"{run} was measured with other versions:\n{rows}",
        expected="the versions of the run, so that its trials stay comparable",
        next_command=f"pip install {pins}, or start a new run with name=NEW_NAME, or mix them knowingly: "
        f"paretoprune resume {run} --mix-versions",
    )


def mixed(before: dict[str, str], now: dict[str, str]) -> dict[str, str]:
    """Return `now` with the other versions that trials of the run were measured with, and with the run's notes."""
    known = before[EARLIER].split(", ") if EARLIER in before else []
    known += [f"{name} {before[name]}" for name in _changed(before, now)]
    ours = {f"{name} {now.get(name)}" for name in MEASURING}
    others = [one for one in dict.fromkeys(known) if one not in ours]
    kept = {REBUILT: before[REBUILT]} if REBUILT in before else {}
    return {**now, **kept, **({EARLIER: ", ".join(others)} if others else {})}


def _changed(before: dict[str, str], now: dict[str, str]) -> list[str]:
    return [name for name in MEASURING if name in before and before[name] != now.get(name)]


def _cpu() -> str:
    if sys.platform.startswith("linux"):
        try:
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
        except OSError:
            pass
    return platform.processor() or "unknown"
