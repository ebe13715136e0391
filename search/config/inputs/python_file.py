"""A Python file of the user's own, executed as a module: the network, its task, or classes of a checkpoint."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from search.errors import ConfigError


def execute(file: Path, name: str, *, where: str, expected: str) -> ModuleType:
    """Execute a file as the module `name`, once per process; its folder can be imported from.

    Args:
        where: the key of the study that names the file; `expected`: what it should be. Both are for messages.

    Raises:
        ConfigError: no such file, it raised, or another module of that name was imported before.
    """
    file = Path(os.path.realpath(file))
    known = sys.modules.get(name)
    if known is not None:
        if is_file_of(getattr(known, "__file__", None), file):
            return known
        raise name_taken(file, where)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise ConfigError(f"no such file: {file}", where=where, expected=expected)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses, pickles and data loaders look it up
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        del sys.modules[name]
        what = f"{file} raised {type(error).__name__}: {error}"
        raise ConfigError(what, where=where, expected="a file that imports") from error
    return module


def is_file_of(found: str | None, file: Path) -> bool:
    """Tell whether two paths lead to one file; None, of a module that has no file, leads to none."""
    return found is not None and os.path.realpath(found) == os.path.realpath(file)


def name_taken(file: Path, where: str) -> ConfigError:
    """Return the error for a file that has the name of another module."""
    what = f"{file} has the name of another module"
    return ConfigError(what, where=where, expected="a name of its own, such as myblocks.py")
