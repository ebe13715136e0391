"""`modules: mymodules.py` in a study: modules of the user's own inside an Ultralytics network.

A checkpoint names a class by the module that it was imported from in training (`mymodules.CBAM`), or by `__main__`. The
file is executed by the processes that load networks, not by the one that reads the study; its classes are then
rebuilt by the restricted loader as Ultralytics' own are. Its hash is part of the run's fingerprint.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from search.errors import ConfigError

_declared: dict[str, None] = {}


def declare(file: str | None) -> None:
    """Remember a file for the processes that load networks; None for none."""
    if file is not None:
        _declared[file] = None


def declared() -> tuple[str, ...]:
    """Return the files declared in this process."""
    return tuple(_declared)


def use(files: Iterable[str]) -> None:
    """Execute files, once per process, and let checkpoints have their classes.

    Raises:
        ConfigError: no such file, it raised, or its name is that of another module.
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
    name = file.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(file):
        return known
    if known is not None or ((found := importlib.util.find_spec(name)) is not None and found.origin != str(file)):
        raise ConfigError(
            f"{file} has the name of another module", where="modules", expected="a name of its own, such as myblocks.py"
        )
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise ConfigError(
            f"no such file: {file}", where="modules", expected="a Python file with the model's own classes"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: pickles and data loaders look it up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        del sys.modules[name]
        raise ConfigError(f"{file} raised {type(error).__name__}: {error}", where="modules") from error
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    return module
