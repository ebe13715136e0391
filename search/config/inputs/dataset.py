"""The reader of data sets: images, labels and classes, by Ultralytics' own rules. Nothing is downloaded.

Fingerprints, calibration, samples, accuracy and export read data by it, so that all of them see the images that a
training sees. An image that Ultralytics leaves out of training, since it or its labels cannot be used, has a *fault*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

from objectives.ultralytics_door import quiet
from search.config.inputs.link_loops import shown
from search.config.inputs.ultralytics_safety import harden
from search.errors import ConfigError

SPLITS = ("train", "val")
MOST_FAULTY = 0.1
"""Share of a split's images that may be faulty: above it the data are probably not what the user believes."""
FEW = 3
"""Of a small split these may be, though they are a larger share."""
_SHOWN = 3
_WORDS = {"train": "training", "val": "validation"}
_THREADS = 8
_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class LabelRules:
    """What of a model decides how labels are read: its task, and whether it was trained with `single_cls`."""

    task: str = "detect"
    single_cls: bool = False

    @classmethod
    def of(cls, model: Any) -> LabelRules:
        """Return the rules of an Ultralytics network."""
        arguments = getattr(model, "args", None)
        said = arguments if isinstance(arguments, Mapping) else vars(arguments) if arguments else {}
        return cls(str(getattr(model, "task", None) or "detect"), bool(said.get("single_cls")))


@dataclass(frozen=True)
class Dataset:
    """A data set that exists.

    Args:
        data: a data YAML, or a folder of class folders.
        said: what Ultralytics made of it: places of the splits, names, channels, `kpt_shape`.
    """

    data: Path
    rules: LabelRules
    said: Mapping[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """Class names by number; two classes may have the same."""
        return tuple(str(self.said["names"][number]) for number in sorted(self.said["names"]))

    @property
    def channels(self) -> int:
        """Channels of an image, 3 unless the data YAML says otherwise."""
        return int(self.said["channels"])

    @property
    def described(self) -> dict[str, Any]:
        """Keys of the data YAML that say what images and labels mean, for a data set made of some of these images."""
        return {key: self.said[key] for key in ("names", "kpt_shape", "flip_idx", "channels") if key in self.said}

    @property
    def root(self) -> Path:
        """The folder that the data YAML calls `path`, or the folder itself."""
        return self.data.resolve() if self.rules.task == "classify" else Path(self.said["path"]).resolve()

    def files(self, split: str) -> tuple[str, ...]:
        """Return all images of `train` or `val`, sorted, faulty ones included.

        Raises:
            ConfigError: the split is neither a folder nor a list of images.
        """
        from pruning.recovery.images import split_files

        try:
            with quiet():
                return tuple(split_files(self.said, split, self.rules.task))
        except OSError as error:
            raise _unusable(self.data, f"data: {split}", str(error.__cause__ or error)) from error

    def label_of(self, image: str) -> str:
        """Return the label file of an image, which need not exist; of a classifier the folder named after its class."""
        from ultralytics.data.utils import img2label_paths

        return str(Path(image).parent) if self.rules.task == "classify" else img2label_paths([image])[0]

    def fault_of(self, image: str) -> str | None:
        """Return why Ultralytics leaves an image out of training; None if it does not.

        As in its own training, a JPEG without an end is written anew.
        """
        from ultralytics.data.utils import verify_image, verify_image_label

        if self.rules.task == "classify":
            _, found, _, message = verify_image(((image, 0), ""))
            return None if found else _fault(image, message)
        points, dimensions = self.said.get("kpt_shape") or (0, 0)
        classes = 1 if self.rules.single_cls else len(self.said["names"])
        is_pose = self.rules.task == "pose"
        result = verify_image_label(
            (image, self.label_of(image), "", is_pose, classes, points, dimensions, self.rules.single_cls)
        )
        return None if result[0] is not None else _fault(image, result[-1])

    def faults(self, images: Sequence[str]) -> dict[str, str]:
        """Return image -> fault, of those that have one."""
        found = zip(images, in_threads(self.fault_of, images), strict=True)
        return {image: fault for image, fault in found if fault is not None}

    def usable(self, files: Sequence[str], count: int) -> tuple[Path, ...]:
        """Return at most `count` of the files at even distances: data sets are often sorted by content.

        Images with a fault are replaced by the next one without.
        """
        step = max(1, ceil(len(files) / count))
        parts = [files[start : start + step] for start in range(0, len(files), step)]
        chosen = in_threads(partial(_first_without_fault, self), parts)
        return tuple(Path(file) for file in chosen if file is not None)


def _first_without_fault(dataset: Dataset, files: Sequence[str]) -> str | None:
    return next((file for file in files if dataset.fault_of(file) is None), None)


def open_dataset(data: Path, rules: LabelRules) -> Dataset:
    """Read a data YAML, or a folder of class folders.

    Raises:
        ConfigError: the data set is incomplete; its `download:` key is never followed.
    """
    from pruning.recovery.images import checked_data

    harden()
    try:
        with quiet():
            return Dataset(data, rules, checked_data(data, rules.task))
    except ConfigError:
        raise
    except Exception as error:  # Ultralytics raises what it likes
        raise _unusable(data, "data", _said(error)) from error


def in_threads(function: Callable[[_Item], _Found], items: Sequence[_Item]) -> Iterator[_Found]:
    """Yield `function` of each item, in order: reading and hashing files leave Python to other threads."""
    with quiet(), ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(function, items)


def check_classes(model: Any, dataset: Dataset) -> None:
    """Refuse a data set with other classes than the model's, whose figures would be silently wrong.

    A model that was trained with `single_cls` takes all classes as its one.

    Raises:
        ConfigError: the class names differ.
    """
    known = tuple(str(name) for name in dict(model.names).values())
    if dataset.rules.single_cls or dataset.rules.task == "classify":  # Ultralytics goes by a folder's name
        return
    if dataset.names != known:
        raise ConfigError(
            f"{dataset.data} has other classes than the model: {_short(dataset.names)}",
            where="data: names",
            expected=_short(known),
        )


def check_images(dataset: Dataset, splits: Sequence[str] = SPLITS) -> tuple[str, ...]:
    """Look at every image and label of `splits`; return a line for each split from which images are left out.

    Raises:
        ConfigError: too many have a fault (`check_faults`).
    """
    notes = []
    for split in splits:
        files = dataset.files(split)
        faults = dataset.faults(files)
        check_faults(dataset, split, len(files), faults)
        notes.append(faults_note(split, len(files), faults))
    return tuple(note for note in notes if note)


def check_faults(dataset: Dataset, split: str, total: int, faults: Mapping[str, str]) -> None:
    """Refuse a split of which too much would be left out.

    Raises:
        ConfigError: no image is usable, or more than MOST_FAULTY of all and more than FEW images are faulty.
    """
    if total and (len(faults) == total or len(faults) > max(FEW, MOST_FAULTY * total)):
        many = "none" if len(faults) == total else f"only {total - len(faults):,}"
        raise ConfigError(
            f"{many} of the {total:,} {_WORDS[split]} images can be used; the first fault: {_examples(faults, 1)}",
            where=f"data: {split}",
            expected=f"at most {MOST_FAULTY:.0%} with a fault",
            next_command="repair or remove them",
        )


def faults_note(split: str, total: int, faults: Mapping[str, str]) -> str:
    """Return one line that counts and names what is left out; empty if nothing is."""
    if not faults:
        return ""
    left = f"{len(faults):,} of {total:,} {_WORDS[split]} images left out, as Ultralytics leaves them out"
    return f"{left}: {_examples(faults, _SHOWN)}"


def _examples(faults: Mapping[str, str], most: int) -> str:
    rows = [f"{shown(image)} ({fault})" for image, fault in list(faults.items())[:most]]
    return "; ".join(rows) + (f"; and {len(faults) - most:,} more" if len(faults) > most > 1 else "")


def _fault(image: str, message: str) -> str:
    """Return Ultralytics' reason in one line of plain words."""
    reason = " ".join(message.partition("ignoring corrupt image/label: ")[2].split()) or "unknown"
    if "pi_heif" in reason or "cannot identify image file" in reason:
        # Whatever Pillow does not know is tried as HEIF, whose reader is a package of its own.
        is_heif = image.lower().endswith((".heic", ".heif"))
        return "HEIF images need a package: pip install pi-heif" if is_heif else "no image that can be read"
    if "No such file" in reason:
        return "a link to nothing" if Path(image).is_symlink() else "no such file"
    return shown(reason)


def _unusable(data: Path, where: str, why: str) -> ConfigError:
    return ConfigError(f"{shown(data)} is not a data set that can be used: {why}", where=where)


def _short(names: tuple[str, ...]) -> str:
    return f"{len(names)} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"


def _said(error: Exception) -> str:
    """Return the message without Ultralytics' hint on downloads: nothing is downloaded here."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    said = " ".join(line for line in lines if line and not line.startswith("Note dataset download"))
    return said or type(error).__name__
