"""The input that an exported file says it takes, read without its runtime."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from objectives.errors import LatencyError

FREE = "any"


def declared_input(path: Path) -> list[Any]:
    """Return (batch, channels, height, width) from the metadata that Ultralytics writes; `any` where it says nothing.

    Raises:
        LatencyError: there is nothing at `path`.
    """
    if not path.exists():
        raise LatencyError(f"There is no artefact at {path}.")
    said = metadata_of(path)
    sides = said.get("imgsz")
    height, width = sides if isinstance(sides, Sequence) and len(sides) == 2 else (FREE, FREE)
    return [said.get("batch", FREE), said.get("channels", FREE), height, width]


def metadata_of(path: Path) -> dict[str, Any]:
    """Return the metadata that Ultralytics writes into a file or beside it; empty if there are none."""
    from ultralytics_versions.parts import part

    backend = part("nn.backends.base", "BaseBackend", otherwise=None)
    if hasattr(backend, "read_metadata"):
        found: dict[str, Any] = backend.read_metadata(path) or {}
        return found
    return _of_older(path)


def _of_older(path: Path) -> dict[str, Any]:
    """Read a folder's metadata.yaml, or what TorchScript carries: what a release without a reader writes."""
    if path.is_dir():
        file = path / "metadata.yaml"
        return dict(yaml.safe_load(file.read_text(encoding="utf-8"))) if file.is_file() else {}
    if not zipfile.is_zipfile(path):
        return {}
    with zipfile.ZipFile(path) as archive:
        carried = [name for name in archive.namelist() if name.endswith("/extra/config.txt")]
        return dict(json.loads(archive.read(carried[0]))) if carried else {}


def only_file(path: Path, pattern: str) -> Path:
    """Return the file of a folder that matches, or `path` itself if it is a file. Raises `LatencyError`."""
    if path.is_file():
        return path
    found = sorted(path.glob(pattern))
    if not found:
        raise LatencyError(f"{path} has no file {pattern}. Expected a folder as Ultralytics exports it.")
    return found[0]
