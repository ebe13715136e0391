"""Disable implicit side effects of Ultralytics: downloads of data, and unpickling of labels' caches.

`check_det_dataset` runs a data YAML's `download:` key (a shell line, or Python) as soon as an image folder is missing,
for example when a network drive is lost during a search. A labels' cache is a pickle beside the labels, which the
provider of the data may have put there.
"""

from __future__ import annotations

import functools
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from pruning.checkpoints.inert_reader import BoundedUnpickler

_HARMLESS = {
    (module, name)
    for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    for name in ("_reconstruct", "scalar")
} | {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}
"""All that a cache made by Ultralytics needs beside plain Python values."""


def harden() -> None:
    """Give trainers and validators of this process safe ways to read data, from now on. Idempotent."""
    import ultralytics.data.dataset as dataset
    import ultralytics.engine.trainer as trainer
    import ultralytics.engine.validator as validator
    from ultralytics.data import utils

    reading: Any = dataset
    reading.load_dataset_cache_file = load_cache
    using: Any
    for using in (trainer, validator):
        using.check_det_dataset = functools.partial(utils.check_det_dataset, autodownload=False)
        using.check_cls_dataset = _check_cls_dataset


def _check_cls_dataset(dataset: str | Path, split: str = "") -> dict[str, Any]:
    from ultralytics.data import utils

    if not Path(dataset).is_dir():
        raise FileNotFoundError(f"{dataset}: no such folder of images; nothing is downloaded")
    found: dict[str, Any] = utils.check_cls_dataset(str(dataset), split)
    return found


def load_cache(path: Path) -> dict[str, Any]:
    """Load a labels' cache, written by `numpy.save`, without executing anything in it.

    Raises:
        UnpicklingError: it names anything but arrays; Ultralytics then scans the labels again and replaces it.
    """
    with io.BytesIO(Path(path).read_bytes()) as file:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = header(file)
        if shape != () or kind != np.dtype(object):
            raise pickle.UnpicklingError(f"{path} is no labels' cache")
        found: dict[str, Any] = _Harmless(file.read()).load().item()
    return found


class _Harmless(BoundedUnpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"a labels' cache has no use for {module}.{name}")
        return super().find_class(module, name)
