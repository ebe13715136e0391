"""Folders whose links lead in a circle, which a listing that follows links would never leave."""

from __future__ import annotations

import os
from pathlib import Path

from search.errors import ConfigError

MOST_FOLDERS = 200_000
"""ImageNet has 21,841 classes. Without a circle too, links can unfold a few folders to billions."""

_Identity = tuple[int, int]


def refuse_link_loops(folder: Path) -> None:
    """Walk a folder through its links; anything else than a folder is passed.

    Raises:
        ConfigError: a link leads to a folder that holds it, or there are more than MOST_FOLDERS.
    """
    if not folder.is_dir():
        return
    waiting: list[tuple[str, frozenset[_Identity]]] = [(str(folder), frozenset())]
    seen = 0
    while waiting:
        path, above = waiting.pop()
        here = above | {_identity(path)}
        if len(here) == len(above):
            what = f"{shown(path)} is a link to a folder that holds it, so a listing of its images has no end"
            raise ConfigError(what, where=f"data: {shown(folder)}", next_command=f"remove the link: rm {shown(path)}")
        seen += 1
        if seen > MOST_FOLDERS:
            what = f"{shown(folder)} has more than {MOST_FOLDERS:,} folders, some of them links to others"
            raise ConfigError(what, where="data", expected="each folder once")
        waiting += [(below, here) for below in _folders(path)]


def shown(path: str | os.PathLike[str]) -> str:
    """Return a path for a message: bytes that are no UTF-8 are written as \\xNN, since no terminal prints them."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _identity(path: str) -> _Identity:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _folders(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.path for entry in entries if _is_folder(entry)]
    except PermissionError:  # nobody else can list it either
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))
