"""Comparability of trials: the settings that affect a measurement, and the content of the model.

The contents of the data are compared where Ultralytics reads them (`search.evaluate.data_record`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from search.config.inputs.user_code import UserReference
from search.config.spec import StudySpec
from search.errors import NotComparable

KIND = "2"
"""Of the fingerprint. Those without a kind, of versions before, have names and sizes of images as `data`."""
_SEARCH_KEYS = ("sampler", "seed")
_STUDY_KEYS = ("imgsz", "space", "figures", "objectives", "constraints", "recover", "latency")


def fingerprint(spec: StudySpec) -> dict[str, str]:
    """Return the kind of fingerprint, and sha256 sums of the checkpoints and of the user's own code, if any.

    The data of Ultralytics models, and those that a user's own task reads, are in data.json.
    """
    model, data = UserReference.parse(spec.model), UserReference.parse(spec.data)
    prints = {"kind": KIND, "model": _file_sha256(Path(spec.model)) if model is None else _own_sha256(model)}
    prints |= {base_key(n): _file_sha256(Path(path)) for n, path in enumerate(spec.models) if n}
    if spec.modules is not None:
        prints["modules"] = _file_sha256(Path(spec.modules))
    return prints if data is None else {**prints, "data": _own_sha256(data)}


def base_key(number: int) -> str:
    """Return the key of a base's sha256: `model`, `model 2`, ... in the order of the study."""
    return f"model {number + 1}" if number else "model"


def _own_sha256(reference: UserReference) -> str:
    """Hash the user's file and the name in it."""
    return hashlib.sha256(f"{reference.name}\0{_file_sha256(reference.file)}".encode()).hexdigest()


def of_one_kind(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return two fingerprints without what only one of their kinds knows, so that a difference is one of contents."""
    if old.get("kind") == new.get("kind"):
        return dict(old), dict(new)
    return {"model": old.get("model", "")}, {"model": new.get("model", "")}


def comparable(resolved: Mapping[str, Any], prints: Mapping[str, str]) -> dict[str, Any]:
    """Return the part of a resolved study that may not differ between trials of one run.

    trials, hours, workers, budgets, keep, notify, track, device, paths and names are left out: they may change on
    resume.
    """
    result: dict[str, Any] = {name: prints.get(name) for name in ("model", "modules", "data")}
    result |= {name: found for name, found in prints.items() if name.startswith("model ")}
    result["search"] = {key: resolved["search"][key] for key in _SEARCH_KEYS}
    result |= {key: resolved[key] for key in _STUDY_KEYS}
    return result | {"target": (resolved.get("target") or {}).get("name")}


def check_comparable(old: Mapping[str, Any], new: Mapping[str, Any], *, run: Path) -> None:
    """Raise NotComparable with a diff when the two differ."""
    rows = list(_differences(old, new))
    if not rows:
        return
    raise NotComparable(
        f"{run} was made by a different study:\n" + "\n".join(f"  {row}" for row in rows),
        expected="the same values (trials, hours, workers, budgets and keep may change)",
        next_command=f"paretoprune resume {run} goes on as it began; or start a new run with name=NEW_NAME",
    )


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key in [*old, *(key for key in new if key not in old)]:
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            yield f"{prefix}{key}: {_short(before)} in the run, {_short(after)} now"


def _short(value: object) -> str:
    text = "nothing" if value is None else str(value)
    is_hash = len(text) == 64 and set(text) <= set("0123456789abcdef")
    return f"content {text[:12]}" if is_hash else text


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
