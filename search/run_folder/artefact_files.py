"""Size and digest of an artefact, which is a file or, for OpenVINO, a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def size_bytes(path: Path) -> int:
    """Return the bytes on disk, all files of a folder together."""
    return sum(file.stat().st_size for file in _files(path))


def digest(path: Path) -> str:
    """Return the sha256 of a file; of a folder, over its files' names and contents in order."""
    if path.is_file():
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    found = hashlib.sha256()
    for file in _files(path):
        found.update(f"{file.relative_to(path).as_posix()} {digest(file)}\n".encode())
    return found.hexdigest()


def inside(run: Path, path: Path) -> bool:
    """Return False for what lies outside the run's folder, such as the target of a link that somebody put there."""
    return path.resolve().is_relative_to(run.resolve())
