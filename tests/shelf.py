"""What many tests need and none changes: made once in a run of the tests, by whichever worker comes first.

The folder belongs to the run (pytest's own temporary one), so nothing outlives a change of the code. Outside of pytest,
where the benchmarks use the tests' models, there is no folder and everything is made anew.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from filelock import FileLock

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruning import ChannelGraph

T = TypeVar("T")
_place: list[Path] = []
FOLDER = "PARETOPRUNE_TEST_SHELF"
"""The variable in which child processes find the folder."""


def open_shelf(folder: Path) -> None:
    """Keep things in `folder` from now on: the same one in every worker, and in the processes of their trials."""
    folder.mkdir(parents=True, exist_ok=True)
    _place[:] = [folder]
    os.environ[FOLDER] = str(folder)


def remember_traces() -> None:
    """Let the commands and the preparation in this process take the graphs of stock networks from the shelf.

    Dozens of tests prepare a search, prune or compare the same few networks; half of a preparation is torch.export.
    """
    import pruning

    pruning.trace = trace
    if "torch" in sys.modules:  # where nothing needs it, it is not loaded for this
        from pruning import iterative

        vars(iterative)["trace"] = trace  # which has it by name


def shared(name: str, make: Callable[[], T]) -> T:
    """What `make()` returns, from the file that the first caller left. A copy of one's own every time."""
    if not _place:
        return make()
    path = _place[0] / f"{name}.pickle"
    with FileLock(f"{path}.lock"):
        if path.is_file():
            found: T = pickle.loads(path.read_bytes())
            return found
        made = make()
        _written(path, pickle.dumps(made))
    return made


def shared_folder(name: str, make: Callable[[Path], object], into: Path) -> Path:
    """Fill the folder `into` as `make(folder)` does: with a copy of what the first caller made."""
    if not _place:
        into.mkdir(parents=True, exist_ok=True)
        make(into)
        return into
    kept = _place[0] / name
    with FileLock(f"{kept}.lock"):
        if not kept.is_dir():
            half = kept.with_name(f"{kept.name}.half")
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir()
            make(half)
            half.rename(kept)
    shutil.copytree(kept, into, dirs_exist_ok=True)
    return into


def _written(path: Path, content: bytes) -> None:
    half = path.with_name(f"{path.name}.half")
    half.write_bytes(content)
    os.replace(half, path)


def trace(model: nn.Module, example: Tensor) -> ChannelGraph:
    """`pruning.trace(model, example)`, which asks nothing but the architecture: that of the first such model, if any.

    For tests of what comes after the tracing, which takes a second or two of torch.export. A network that is none of
    Ultralytics' may compute anything with the same layers: it is always traced.
    """
    from pruning.graph import trace as traced
    from pruning.structure.fingerprint import fingerprint

    if not type(model).__module__.startswith("ultralytics."):
        return traced(model, example)
    layers = hashlib.sha256(f"{fingerprint(model)} {model}".encode()).hexdigest()[:16]
    kind = f"{type(model).__name__}-{layers}-{'x'.join(map(str, example.shape))}"
    return replace(shared(f"graph-{kind}", lambda: traced(model, example)), model=model, slice_templates=[])
