"""Contents of a data set: a digest of every image and label, and the images that are left out.

Two data sets are the same if Ultralytics would train and validate on the same bytes in the same order: neither the
spelling of a path nor the place of the folder counts. A digest is computed again only when the size or the time of
change of its file is another.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from search.config.inputs.dataset import SPLITS, Dataset, check_faults, faults_note, in_threads
from search.config.inputs.link_loops import refuse_link_loops, shown

FORMAT = 1
_SETTINGS = ("names", "kpt_shape", "flip_idx", "channels")
_SHOWN = 3
_DIGITS = 32


@dataclass(frozen=True)
class FileContent:
    """A file's size in bytes, its time of change, and the beginning of the sha256 of its bytes."""

    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True)
class ImageContent:
    """An image and its labels.

    Args:
        label: of the label file, None if there is none.
        label_name: of a classifier, the name of the folder, which is the class.
        fault: why Ultralytics leaves the image out, of which nothing else is known then; None if it does not.
    """

    image: FileContent | None
    label: FileContent | None = None
    label_name: str = ""
    fault: str | None = None

    @property
    def identity(self) -> str:
        """What a training sees of it."""
        image, label = (found.sha256 if found else "" for found in (self.image, self.label))
        return f"{image} {label} {self.label_name}"


@dataclass(frozen=True)
class DataContents:
    """Contents of the splits, by the path of an image below `root`, in the order in which they are read."""

    root: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    splits: Mapping[str, Mapping[str, ImageContent]] = field(default_factory=dict)

    def faults(self, split: str) -> dict[str, str]:
        """Return image -> fault, of the images that are left out."""
        rows = self.splits.get(split, {}).items()
        return {os.path.normpath(os.path.join(self.root, name)): row.fault for name, row in rows if row.fault}

    @property
    def notes(self) -> tuple[str, ...]:
        """One line for each split from which images are left out."""
        lines = [faults_note(split, len(rows), self.faults(split)) for split, rows in self.splits.items()]
        return tuple(line for line in lines if line)

    def digest(self, split: str) -> str:
        """Return the sha256 of all that is used of a split."""
        digest = hashlib.sha256()
        for row in self.splits.get(split, {}).values():
            if row.fault is None:
                digest.update(f"{row.identity}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    @property
    def sha256(self) -> str:
        """Digest of all splits and settings: equal for data that are the same."""
        said = {"settings": self.settings, "splits": {split: self.digest(split) for split in self.splits}}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return plain data; `from_json` reads it."""
        splits = {
            split: {"digest": self.digest(split), "images": {name: _row(one) for name, one in rows.items()}}
            for split, rows in self.splits.items()
        }
        return {
            "format": FORMAT,
            "sha256": self.sha256,
            "root": self.root,
            "settings": dict(self.settings),
            "splits": splits,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DataContents:
        """Parse `to_json`, of a format that is known. Raises KeyError, TypeError or ValueError for anything else."""
        splits = {
            split: {name: _content(one) for name, one in said["images"].items()}
            for split, said in data["splits"].items()
        }
        return cls(str(data["root"]), dict(data["settings"]), splits)


def contents_of(
    dataset: Dataset, before: DataContents | None = None, beat: Callable[[], None] = lambda: None
) -> DataContents:
    """Read all images and labels once.

    Args:
        before: contents whose digests and faults still hold where size and time of change are the same.
        beat: called after every image.

    Raises:
        ConfigError: a split cannot be listed, has no images, or too many with a fault (`check_faults`).
    """
    root = str(dataset.root)
    settings = {key: dataset.said[key] for key in _SETTINGS if key in dataset.said} | {"task": dataset.rules.task}
    settings |= {"names": list(dataset.names), "single_cls": dataset.rules.single_cls}
    found = DataContents(root, settings)
    known = before.splits if before is not None and (before.root, before.settings) == (root, settings) else {}
    splits = {}
    for split in SPLITS:
        files = dataset.files(split)
        rows = in_threads(partial(_read, dataset, root, known.get(split, {})), files)
        splits[split] = {_name(file, root): row for file, row in _each(zip(files, rows, strict=True), beat)}
        found = DataContents(root, settings, splits)
        check_faults(dataset, split, len(files), found.faults(split))
    return found


def contents_of_files(
    place: Path, before: DataContents | None = None, beat: Callable[[], None] = lambda: None
) -> DataContents:
    """Return the contents of a file, or of all files of a folder, of which nothing else is known."""
    refuse_link_loops(place)
    root = str(place.resolve())
    known = {} if before is None or before.root != root else before.splits.get("files", {})
    files = sorted(_all_files(root)) if place.is_dir() else [root]
    rows = in_threads(partial(_read_file, root, known), files)
    found = {_name(file, root): row for file, row in _each(zip(files, rows, strict=True), beat)}
    return DataContents(root, {}, {"files": found})


def differences(before: DataContents, after: DataContents) -> list[str]:
    """Return a line for each thing in which the data differ; empty if trials on both are comparable."""
    rows = []
    for key in [*before.settings, *(key for key in after.settings if key not in before.settings)]:
        old, new = before.settings.get(key), after.settings.get(key)
        if old != new:
            rows.append(f"{key}: {_short(old)} in the run, {_short(new)} now")
    for split in dict.fromkeys((*before.splits, *after.splits)):
        if before.digest(split) != after.digest(split):
            rows += _of_split(split, before.splits.get(split, {}), after.splits.get(split, {}))
    return rows


def _of_split(split: str, before: Mapping[str, ImageContent], after: Mapping[str, ImageContent]) -> Iterator[str]:
    old = {name: row for name, row in before.items() if row.fault is None}
    new = {name: row for name, row in after.items() if row.fault is None}
    both = [name for name in old if name in new]
    images: list[str] = []
    labels: list[str] = []
    unlabelled: list[str] = []
    for name in both:
        one, other = old[name], new[name]
        if (one.image and one.image.sha256) != (other.image and other.image.sha256):
            images.append(name)
        elif one.identity != other.identity:
            (unlabelled if one.label and not other.label else labels).append(name)
    kinds = {
        "other contents": images,
        "other labels": labels,
        "labels gone": unlabelled,
        "gone": [name for name in old if name not in after],
        "cannot be used any more": [name for name in old if name in after and name not in new],
        "new": [name for name in new if name not in old],
    }
    lines = [
        f"{split}: {kind}: {len(names):,} of {len(before):,} ({_some(names)})" for kind, names in kinds.items() if names
    ]
    yield from lines or [f"{split}: the same files in another order"]


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(shown, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")


def _short(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _each(rows: Iterator[tuple[str, ImageContent]], beat: Callable[[], None]) -> Iterator[tuple[str, ImageContent]]:
    for row in rows:
        beat()
        yield row


def _read(dataset: Dataset, root: str, known: Mapping[str, ImageContent], image: str) -> ImageContent:
    """Read one image and its labels, or take them as known if both files are as they were."""
    is_folder = dataset.rules.task == "classify"
    label = dataset.label_of(image)
    before = known.get(_name(image, root))
    if before is not None and _is_as_before(image, before.image) and (is_folder or _is_as_before(label, before.label)):
        return before
    fault = dataset.fault_of(image)  # may write the image anew, so before its digest
    if fault is not None:
        return ImageContent(None, fault=fault)
    if is_folder:
        return ImageContent(_file(image), label_name=Path(label).name)
    return ImageContent(_file(image), _file(label))


def _read_file(root: str, known: Mapping[str, ImageContent], file: str) -> ImageContent:
    before = known.get(_name(file, root))
    if before is not None and _is_as_before(file, before.image):
        return before
    return ImageContent(_file(file))


def _is_as_before(file: str, before: FileContent | None) -> bool:
    return _stamp(file) == (None if before is None else (before.size, before.mtime_ns))


def _stamp(file: str) -> tuple[int, int] | None:
    """Return size and time of change; None of what is not there, or cannot be followed: its fault is found anew."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _file(file: str) -> FileContent | None:
    """Return a file's content; None if there is none, as for an image without objects or a link to nothing."""
    stamp = _stamp(file)
    if stamp is None or not os.path.isfile(file):
        return None
    with open(file, "rb") as content:
        return FileContent(*stamp, hashlib.file_digest(content, "sha256").hexdigest()[:_DIGITS])


def _all_files(root: str) -> Iterator[str]:
    for parent, _, names in os.walk(root, followlinks=True):
        yield from (os.path.join(parent, name) for name in names)


def _name(file: str, root: str) -> str:
    return os.path.relpath(file, root)


def _row(found: ImageContent) -> list[Any]:
    files = [None if one is None else [one.size, one.mtime_ns, one.sha256] for one in (found.image, found.label)]
    return [*files, found.label_name, found.fault]


def _content(row: Sequence[Any]) -> ImageContent:
    image, label, label_name, fault = row
    image, label = (None if one is None else FileContent(*one) for one in (image, label))
    return ImageContent(image, label, label_name, fault)
