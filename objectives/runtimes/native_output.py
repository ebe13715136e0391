"""What libraries print is kept from the terminal, and from the JSON on standard output.

Converters and runtimes in C++ write to the process's file descriptors, which `contextlib.redirect_stdout` does not
reach; those in Python write to `sys.stdout`, which need not be descriptor 1.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

_KEPT_BYTES = 1 << 16


@dataclass
class Said:
    """What was printed; the end of it, when the block is over."""

    text: str = ""

    def last_lines(self, count: int = 3) -> str:
        """Return the last lines that say something, joined by `; `."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        return "; ".join(line[:200] for line in lines[-count:])


@contextlib.contextmanager
def native_output() -> Iterator[Said]:
    """Keep what this process prints, and what it starts."""
    said, kept, written = Said(), [os.dup(1), os.dup(2)], io.StringIO()
    level = logging.root.manager.disable
    logging.disable(max(level, logging.WARNING))
    with tempfile.TemporaryFile() as file:
        _flush()
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
        try:
            with contextlib.redirect_stdout(written), contextlib.redirect_stderr(written):
                yield said
        finally:
            logging.disable(level)
            _flush()
            for descriptor, before in zip((1, 2), kept, strict=True):
                os.dup2(before, descriptor)
                os.close(before)
            file.seek(max(0, file.seek(0, os.SEEK_END) - _KEPT_BYTES))
            said.text = written.getvalue()[-_KEPT_BYTES:] + file.read().decode("utf-8", errors="replace")


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):  # none there, or closed
            stream.flush()
