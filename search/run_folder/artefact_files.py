"""Size, digest and removal of an artefact, which is a file or, for OpenVINO, ncnn and ExecuTorch, a folder."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path


def files_of(path: Path) -> list[Path]:
    """Return the files of an artefact, in order."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def size_bytes(path: Path) -> int:
    """Return the bytes on disk, all files of a folder together."""
    return sum(file.stat().st_size for file in files_of(path))


def digest(path: Path) -> str:
    """Return the sha256 of a file; of a folder, over its files' names and contents in order."""
    if path.is_file():
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    found = hashlib.sha256()
    for file in files_of(path):
        found.update(f"{file.relative_to(path).as_posix()} {digest(file)}\n".encode())
    return found.hexdigest()


def discard(path: Path) -> None:
    """Remove an artefact, a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def inside(run: Path, path: Path) -> bool:
    """Return False for what lies outside the run's folder, such as the target of a link that somebody put there."""
    return path.resolve().is_relative_to(run.resolve())
