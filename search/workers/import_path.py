"""Where a new Python looks for modules: not in the working folder, where the user may have a search.py of their own.

`python -c` and `python -m` put the working folder first, and multiprocessing starts its fork server with `-c`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_SAFE = "PYTHONSAFEPATH"
"""Python's own variable: as the option -P, for every Python that is started with it."""


@contextmanager
def without_working_folder() -> Iterator[str | None]:
    """Inside, a Python that is started does not import from the working folder. Yields what the variable was before."""
    given = os.environ.get(_SAFE)
    os.environ[_SAFE] = "1"
    try:
        yield given
    finally:
        as_given(given)


def as_given(value: str | None) -> None:
    """Set the variable to what it was before: programs of the user's import as they always did."""
    os.environ.pop(_SAFE, None)
    if value is not None:
        os.environ[_SAFE] = value
