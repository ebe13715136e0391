"""Temporary folders that are known by their owner: what a killed process leaves is removed when the next one starts.

The owner holds a lock (flock) on the folder itself, which the kernel frees when the process dies, however it dies.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "paretoprune-held-"
_YOUNG_S = 60.0
"""A folder is made an instant before it is locked: younger ones are left alone."""
_HELD: dict[Path, int] = {}
"""Folder -> open handle that holds its lock, of this process."""


def make_held_folder(kind: str, parent: Path | None = None) -> Path:
    """Return a new folder `paretoprune-held-KIND-...` that this process holds until `release`.

    Args:
        parent: where to make it; None: the temporary folder.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-", dir=parent))
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    _HELD[folder] = handle
    return folder


def release(folder: Path) -> None:
    """Remove a folder of `make_held_folder` with all that is in it."""
    shutil.rmtree(folder, ignore_errors=True)
    handle = _HELD.pop(folder, None)
    if handle is not None:
        os.close(handle)


@contextmanager
def held_folder(kind: str) -> Iterator[Path]:
    """Yield a folder of `make_held_folder` and remove it."""
    folder = make_held_folder(kind)
    try:
        yield folder
    finally:
        release(folder)


def remove_abandoned(parent: Path | None = None) -> None:
    """Remove the folders of this user in `parent` whose owners are dead. Others are left as they are.

    Args:
        parent: None: the temporary folder.
    """
    for folder in Path(parent or tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # it has just been removed by its owner, or by another process that cleans up
            _remove_if_abandoned(folder)


def _remove_if_abandoned(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or time.time() - found.st_mtime < _YOUNG_S:
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)
