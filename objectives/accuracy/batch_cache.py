"""A disk cache of prepared validation batches, shared by all validations of a study.

A search validates the same images hundreds of times, each time in a fresh process. Listing files, verifying labels,
decoding, scaling and padding images, drawing masks: all of it gives the same batches every time. The first validation
stores them in a folder; the others map that file into memory, so that concurrent processes share one copy.

The file's name is a digest of what the batches depend on: the files of the split with their sizes and times of change,
the task, the input size, the batch size. If the data change, a new file replaces the old one.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from objectives.image_size import size_of, written

MOST_BYTES = 2_000_000_000
"""Larger splits are prepared anew each time: the disk and its cache are there for the training images too."""


@dataclass(frozen=True)
class BatchCache:
    """Cached batches of one data set, in a folder of their own."""

    folder: Path

    def loader(self, key: str, loader: Any) -> Any:
        """Return the stored batches of `key` for a validator, else `loader()`, whose batches are stored on reading."""
        stored = self._stored(key)
        return StoredBatches(stored) if stored is not None else RecordedBatches(loader(), self, key)

    def put(self, key: str, batches: Sequence[Mapping[str, Any]]) -> None:
        """Store batches atomically; a full disk is ignored."""
        part = self._path(key).with_suffix(f".{os.getpid()}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            torch.save([{name: _plain(value) for name, value in batch.items()} for batch in batches], part)
            for old in self.folder.glob(f"{key.partition('-')[0]}-*.pt"):
                old.unlink(missing_ok=True)
            part.replace(self._path(key))
        except (OSError, RuntimeError):
            part.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.pt"

    def _stored(self, key: str) -> list[dict[str, Any]] | None:
        try:
            found: list[dict[str, Any]] = torch.load(self._path(key), mmap=True, weights_only=True)
        except (OSError, RuntimeError, pickle.UnpicklingError, EOFError):
            return None
        return found


@dataclass(frozen=True)
class _Labels:
    """The part of a data set that validators read: number of images, and labels of each."""

    labels: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.labels)


class StoredBatches:
    """Stored batches in place of a data loader. Iterations yield fresh dictionaries, since validators modify them."""

    def __init__(self, batches: Sequence[Mapping[str, Any]]) -> None:
        self._batches = batches
        self.batch_size = max((len(batch["img"]) for batch in batches), default=1)
        self.dataset = _Labels([labels for batch in batches for labels in _labels(batch)])

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(batch) for batch in self._batches)


class RecordedBatches:
    """A data loader whose batches are stored once all of them were read, unless there are too many."""

    def __init__(self, loader: Any, shelf: BatchCache, key: str) -> None:
        self._loader, self._shelf, self._key = loader, shelf, key
        self.batch_size = loader.batch_size
        self.dataset = loader.dataset

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        kept: list[dict[str, Any]] = []
        total = 0
        for batch in self._loader:
            total += sum(value.nbytes for value in batch.values() if isinstance(value, torch.Tensor))
            if total <= MOST_BYTES:
                kept.append(dict(batch))
            else:
                kept.clear()
            yield batch
        if kept and total <= MOST_BYTES:
            self._shelf.put(self._key, kept)


def batch_key(places: Sequence[str | Path], settings: Mapping[str, Any]) -> str:
    """Return the cache key of batches: their size in px, and a digest of everything that they depend on."""
    from ultralytics.data.utils import img2label_paths

    digest = hashlib.sha256(json.dumps(dict(settings), sort_keys=True, default=str).encode())
    images = _files(places)
    for path in (*images, *img2label_paths([*images])):
        try:
            about = os.stat(path)
        except OSError:  # an image without objects has no label file
            continue
        digest.update(os.fsencode(path) + f"\0{about.st_size}\0{about.st_mtime_ns}\n".encode())
    return f"{settings['task']}{written(size_of(settings['imgsz']) or 0)}-{digest.hexdigest()[:20]}"


def _files(places: Sequence[str | Path]) -> list[str]:
    """Return the images of folders and list files as Ultralytics finds them, in its order."""
    from ultralytics.data.base import BaseDataset

    everything: Any = SimpleNamespace(fraction=1.0, prefix="")
    return list(BaseDataset.get_img_files(everything, [str(place) for place in places]))


def _labels(batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    counts = torch.bincount(batch["batch_idx"].long(), minlength=len(batch["img"])) if "batch_idx" in batch else ()
    for count in counts if len(counts) else [0] * len(batch["img"]):
        yield {"cls": np.zeros((int(count), 1), np.float32)}


def _plain(value: Any) -> Any:
    """Convert NumPy arrays, which PyTorch's restricted loader refuses."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return type(value)(map(_plain, value)) if isinstance(value, list | tuple) else value
