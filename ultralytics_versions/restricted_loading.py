"""Loading of checkpoints by PyTorch's restricted loader, with the classes of networks that Ultralytics itself defines.

Releases that know ULTRALYTICS_SAFE_LOAD do this themselves, and are left to. The older ones unpickle whatever a file
says (their own `safe_only` lets every builtin through), so that `install` gives them the loader of this module.
"""

from __future__ import annotations

import enum
import os
import pathlib
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.serialization
from torch import nn
from ultralytics.nn import tasks
from ultralytics.utils import IterableSimpleNamespace

_ULTRALYTICS: Any = tasks
HAS_OWN = hasattr(tasks, "_SafeLoad")
"""Whether this release loads safely by itself."""
_UNRESTRICTED: Any = _ULTRALYTICS.torch_safe_load
_SWITCH = "ULTRALYTICS_SAFE_LOAD"
_NETWORKS = ("torch.nn.modules.", "ultralytics.nn.modules.", "ultralytics.nn.tasks", "torchvision.ops.")
_OTHERS = ("ultralytics.utils.loss", "ultralytics.utils.tal", "torchvision.transforms.")
"""Where the classes are that a checkpoint has beside layers: losses of a training, pictures' preparation."""
_RENAMED = {
    "ultralytics.nn.modules.block.Silence": "torch.nn.modules.linear.Identity",
    "ultralytics.nn.tasks.YOLOv10DetectionModel": "ultralytics.nn.tasks.DetectionModel",
    "ultralytics.utils.loss.v10DetectLoss": "ultralytics.utils.loss.E2EDetectLoss",
}
"""What checkpoints of published networks call their classes: what they are called now."""
_lock = threading.RLock()
"""Held while a file is loaded: PyTorch's list, and the constructors that are closed meanwhile, are of the process."""


def load(path: str | Path) -> dict[str, Any]:
    """Return the document of a checkpoint.

    Raises UnpicklingError for what no network of Ultralytics has, and for a call of a class: the constructor of a model
    evaluates text of its configuration in these releases, and an honest file names classes but never calls one. What
    PyTorch raises for a damaged file passes through.
    """
    if HAS_OWN:
        found: dict[str, Any] = _UNRESTRICTED(str(path), safe_only=True)[0]
        return found
    named = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    entries = [(known, name) for name in named if (known := _known(name)) is not None]
    with _lock, _constructors_closed(known for known, _ in entries):
        torch.serialization.add_safe_globals([*entries, *_dtypes(named)])
        loaded: dict[str, Any] = torch.load(str(path), map_location="cpu", weights_only=True)
    return loaded


@contextmanager
def _constructors_closed(named: Iterable[Any]) -> Iterator[None]:
    """While a file is loaded, let no class that it names, nor any layer, be called in this thread; others go on.

    Enumerations may be: that is how their members are written.
    """
    own = tuple(place.rstrip(".") for place in (*_NETWORKS, *_OTHERS))
    classes: list[type] = [nn.Module]
    classes += [found for found in named if isinstance(found, type) and not issubclass(found, enum.Enum)]
    parents = {parent for found in classes for parent in found.__mro__ if "__init__" in vars(parent)}
    before = {parent: vars(parent)["__init__"] for parent in parents if parent.__module__.startswith(own)}
    try:
        for parent, constructor in before.items():
            _set_constructor(parent, _refusing(constructor))
        yield
    finally:
        for parent, constructor in before.items():
            _set_constructor(parent, constructor)


def _set_constructor(owner: Any, constructor: Callable[..., None]) -> None:
    owner.__init__ = constructor


def _refusing(constructor: Callable[..., None]) -> Callable[..., None]:
    """Return a constructor that makes nothing in the thread that loads."""
    loading = threading.get_ident()

    def refuse(self: Any, *arguments: Any, **options: Any) -> None:
        if threading.get_ident() == loading:
            raise pickle.UnpicklingError(f"a checkpoint does not call {type(self).__qualname__}")
        constructor(self, *arguments, **options)

    return refuse


def install() -> None:
    """Let all of Ultralytics load by `load` where it cannot load safely itself. Idempotent.

    As its later releases do, by what ULTRALYTICS_SAFE_LOAD says when a file is loaded.
    """
    if not HAS_OWN:
        _ULTRALYTICS.torch_safe_load = _as_ultralytics


def _as_ultralytics(weight: str | Path, safe_only: bool = False) -> tuple[Any, str]:
    if not safe_only and os.environ.get(_SWITCH, "").lower() not in ("1", "true"):
        return _UNRESTRICTED(weight)  # type: ignore[no-any-return]
    return load(weight), str(weight)


def _known(name: str) -> Any:
    """Return what a checkpoint may have under a name, or None."""
    if name in _DATA:
        return _DATA[name]
    name = _RENAMED.get(name, name)
    module, _, attribute = name.rpartition(".")
    found: Any = None
    if f"{module}.".startswith((*_NETWORKS, *_OTHERS)):
        found = getattr(import_module(module), attribute, None)
    if not isinstance(found, type) or found.__module__ != module:  # what a module only imports is not its own
        return None
    return found if issubclass(found, nn.Module) or f"{module}.".startswith(_OTHERS) else None


def _dtypes(named: list[str]) -> Iterator[Any]:
    """Yield classes that NumPy makes while it runs, so that no file names them."""
    if "numpy.dtype" in named:
        yield type(np.dtype(np.float64))


def _attribute(owner: Any, name: str) -> Any:
    """What a checkpoint gets for `getattr`: of a class what a layer or an enumeration has, of a layer how it is run."""
    if isinstance(owner, type) and issubclass(owner, nn.Module | enum.Enum) and not name.startswith("__"):
        return getattr(owner, name)
    if isinstance(owner, nn.Module) and name in ("forward", "forward_fuse"):
        return getattr(type(owner), name).__get__(owner)
    kind = owner if isinstance(owner, type) else type(owner)
    raise pickle.UnpicklingError(f"getattr of {kind.__name__} is no part of a network")


_PATHS = ("pathlib", "pathlib._local")
_SCALAR: Any = np.float64(0).__reduce__()[0]
_DATA: dict[str, Any] = {
    "builtins.getattr": _attribute,
    "numpy.dtype": np.dtype,
    "numpy.core.multiarray.scalar": _SCALAR,
    "numpy._core.multiarray.scalar": _SCALAR,
    "ultralytics.utils.IterableSimpleNamespace": IterableSimpleNamespace,
    "ultralytics.yolo.utils.IterableSimpleNamespace": IterableSimpleNamespace,
    **{f"{place}.{kind}": pathlib.Path for place in _PATHS for kind in ("PosixPath", "WindowsPath")},
}
