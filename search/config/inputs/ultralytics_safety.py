"""Disable implicit side effects of Ultralytics: downloads and copies of data, and unpickling of labels' caches.

`check_det_dataset` runs a data YAML's `download:` key (a shell line, or Python) as soon as an image folder is missing,
for example when a network drive is lost during a search. `check_cls_dataset` downloads a folder that is not there, and
copies one without `train` into two halves. A labels' cache is a pickle beside the labels, which the provider of the
data may have put there. Folders are listed through links, for ever where these lead in a circle.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from pruning.checkpoints.inert_reader import BoundedUnpickler
from search.config.inputs.dataset_yaml import read_data_yaml
from search.config.inputs.link_loops import refuse_link_loops, shown
from search.errors import ConfigError

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

    from ultralytics_versions.restricted_loading import install

    install()
    reading: Any = dataset
    reading.load_dataset_cache_file = load_cache
    using: Any
    for using in (trainer, validator):
        using.check_det_dataset = _check_det_dataset
        using.check_cls_dataset = _check_cls_dataset


def _check_det_dataset(dataset: str | Path, autodownload: bool = False, split: str = "") -> dict[str, Any]:
    """Read a data YAML as `ultralytics.data.utils.check_det_dataset`; `autodownload` is ignored."""
    from ultralytics.data import utils

    from ultralytics_versions.parts import read_data

    file = Path(dataset)
    if file.is_dir():
        refuse_link_loops(file)
        file = utils.find_dataset_yaml(file)
    if file.is_file():
        read_data_yaml(file)
    found = read_data(utils.check_det_dataset, dataset, split)
    for name in ("train", "val", "test", "minival"):
        places = found.get(name) or []
        for place in [places] if isinstance(places, str) else places:
            refuse_link_loops(Path(place))
            _check_list(Path(place))
    return found


def _check_list(place: Path) -> None:
    """Refuse a text file that lists images and is not UTF-8, of which Ultralytics says only that it has an error."""
    try:
        if place.is_file():
            place.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        what = f"the list of images {shown(place)} is not UTF-8 text"
        raise ConfigError(what, where="data", next_command=f"write {shown(place)} anew in UTF-8") from error


def _check_cls_dataset(dataset: str | Path, split: str = "") -> dict[str, Any]:
    from ultralytics.data import utils

    folder = Path(dataset)
    if not folder.is_dir():
        raise FileNotFoundError(f"{dataset}: no such folder of images; nothing is downloaded")
    if not (folder / "train").is_dir():
        raise FileNotFoundError(f"{dataset}: no folder train; expected train and val, each with a folder per class")
    refuse_link_loops(folder)
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
