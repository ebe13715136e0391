"""Comparability of trials: the settings that affect a measurement, and the content of model and data."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from search.config.inputs.dataset_yaml import read_data_yaml
from search.config.inputs.user_code import UserReference
from search.config.spec import StudySpec
from search.errors import NotComparable

_IMAGES = {".bmp", ".dng", ".heic", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp", ".avif"}
_SPLITS = ("train", "val", "test", "minival")
_SEARCH_KEYS = ("sampler", "seed")
_STUDY_KEYS = ("imgsz", "space", "figures", "objectives", "constraints", "recover", "latency")


def fingerprint(spec: StudySpec) -> dict[str, str]:
    """Return sha256 sums of the checkpoint, and of the dataset file with names and sizes of the images it lists."""
    model, data = UserReference.parse(spec.model), UserReference.parse(spec.data)
    return {
        "model": _file_sha256(Path(spec.model)) if model is None else _own_sha256(model),
        "data": _data_sha256(Path(spec.data)) if data is None else _own_sha256(data),
    }


def _own_sha256(reference: UserReference) -> str:
    """Hash the user's file, the name in it, and the data: a file's bytes, or names and sizes of a folder's files."""
    digest = hashlib.sha256(f"{reference.name}\0{_file_sha256(reference.file)}".encode())
    data = None if reference.data is None else Path(reference.data)
    if data is not None and data.is_file():
        digest.update(_file_sha256(data).encode())
    if data is not None and data.is_dir():
        for path in sorted(path for path in data.rglob("*") if path.is_file()):
            digest.update(f"{path.relative_to(data)}\0{path.stat().st_size}\n".encode())
    return digest.hexdigest()


def comparable(resolved: Mapping[str, Any], prints: Mapping[str, str]) -> dict[str, Any]:
    """Return the part of a resolved study that may not differ between trials of one run.

    trials, hours, workers, budgets, keep, device, paths and names are left out: they may change on resume.
    """
    result: dict[str, Any] = {"model": prints.get("model"), "data": prints.get("data")}
    result["search"] = {key: resolved["search"][key] for key in _SEARCH_KEYS}
    result |= {key: resolved[key] for key in _STUDY_KEYS}
    return result


def check_comparable(old: Mapping[str, Any], new: Mapping[str, Any], *, run: Path) -> None:
    """Raise NotComparable with a diff when the two differ."""
    rows = list(_differences(old, new))
    if not rows:
        return
    raise NotComparable(
        f"{run} was made by a different study:\n" + "\n".join(f"  {row}" for row in rows),
        expected="the same values (trials, hours, workers, budgets and keep may change)",
        next_command="change them back, or start a new run with name=NEW_NAME",
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


def _data_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    if path.is_dir():
        _add_folder(digest, path)
        return digest.hexdigest()
    digest.update(path.read_bytes())
    for source in _listed(path, _SPLITS):
        if source.is_dir():
            _add_folder(digest, source)
        elif source.is_file():
            digest.update(source.read_bytes())
    return digest.hexdigest()


def count_images(data: Path, split: str) -> int:
    """Count the images of one split; 0 if they cannot be found without downloading."""
    if data.is_dir():
        return sum(1 for _ in _images(data / split))
    sources = _listed(data, (split,))
    return sum(
        sum(1 for _ in _images(source)) if source.is_dir() else len(source.read_text().split())
        for source in sources
        if source.exists()
    )


def _listed(path: Path, splits: tuple[str, ...]) -> Iterator[Path]:
    """Yield the existing folders and list files of a dataset YAML; those still to be downloaded are skipped."""
    data = read_data_yaml(path)
    if not isinstance(data, dict):
        return
    said = data.get("path")
    root = Path(said) if isinstance(said, str) and said else path.parent
    root = root if root.is_absolute() else (path.parent / root).resolve()
    for split in splits:
        entries = data.get(split)
        for entry in entries if isinstance(entries, list) else [entries]:
            if isinstance(entry, str):
                yield root / entry


def _add_folder(digest: hashlib._Hash, folder: Path) -> None:
    for name, size in sorted(_images(folder)):
        digest.update(f"{name}\0{size}\n".encode())


def _images(folder: Path) -> Iterator[tuple[str, int]]:
    for parent, _, names in os.walk(folder, followlinks=True):
        for name in names:
            if os.path.splitext(name)[1].lower() in _IMAGES:
                full = os.path.join(parent, name)
                yield os.path.relpath(full, folder), os.path.getsize(full)
