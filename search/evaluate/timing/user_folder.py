"""The folder for files that all processes of a user on this machine share, and nobody else can touch."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from search.errors import ConfigError


def user_folder() -> Path:
    """Return `paretoprune-UID` in the temporary folder; made if it is missing.

    Not in XDG_RUNTIME_DIR: a job without a login does not have it, and it is removed when its user logs out, under the
    searches that go on.

    Raises:
        ConfigError: it is a link, belongs to somebody else, or others may enter it.
    """
    return _made(Path(tempfile.gettempdir()) / f"paretoprune-{os.getuid()}")


def _made(folder: Path) -> Path:
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not _is_own(folder):
        raise ConfigError(
            f"{folder} is not a folder that only you can enter",
            expected="one of your own with mode 0700, and no link",
            next_command=f"chmod 700 {folder}, or set TMPDIR to a folder of your own",
        )
    return folder


def _is_own(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
