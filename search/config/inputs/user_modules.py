"""`modules: mymodules.py` in a study: modules of the user's own inside an Ultralytics network.

A checkpoint names a class by the module that it was imported from in training (`mymodules.CBAM`), or by `__main__`. The
file is executed by the processes that load networks, not by the one that reads the study; its classes are then
rebuilt by the restricted loader as Ultralytics' own are. Its hash is part of the run's fingerprint.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from keyword import iskeyword
from pathlib import Path
from types import ModuleType

from search.config.inputs.python_file import execute, is_file_of, name_taken
from search.errors import ConfigError

_declared: dict[str, None] = {}


def declare(file: str | None) -> None:
    """Remember a file for the processes that load networks; None for none."""
    if file is not None:
        _declared[file] = None


def declared() -> tuple[str, ...]:
    """Return the files declared in this process."""
    return tuple(_declared)


def name_fault(file: Path) -> str | None:
    """Return why nothing can be imported from a file of this name, or None."""
    if file.stem.isidentifier() and not iskeyword(file.stem):
        return None
    return f"{file.name} cannot be imported: its name must be letters, digits and underscores, no digit first"


def use(files: Iterable[str]) -> None:
    """Execute files, once per process, and let checkpoints have their classes.

    Raises:
        ConfigError: no such file, it raised, or its name cannot be imported or is that of another module.
    """
    for file in files:
        _allow(_executed(Path(file)))
        declare(file)


def _allow(module: ModuleType) -> None:
    import torch
    from torch import nn

    own = [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, nn.Module) and kind.__module__ == module.__name__
    ]
    aliases = [(kind, f"__main__.{kind.__qualname__}") for kind in own]
    torch.serialization.add_safe_globals([*own, *aliases])


def _executed(file: Path) -> ModuleType:
    """Execute a file under the name by which a checkpoint knows it, which no other module may have."""
    name = file.stem
    if (fault := name_fault(file)) is not None:
        raise ConfigError(fault, where="modules", expected="a name such as myblocks.py")
    if name not in sys.modules:
        found = importlib.util.find_spec(name)
        if found is not None and not is_file_of(found.origin, file):
            raise name_taken(file, "modules")
    return execute(file, name, where="modules", expected="a Python file with the model's own classes")
