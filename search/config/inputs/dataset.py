"""Read the images of a split and the classes of a data set. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from objectives.ultralytics_door import quiet
from search.errors import ConfigError


@dataclass(frozen=True)
class Dataset:
    """Files of one split, and class names in order (empty for a folder of class folders)."""

    images: tuple[Path, ...]
    names: tuple[str, ...]


def read_dataset(data: Path) -> Dataset:
    """Read the validation split of a data YAML, or of a folder with a `val` (or `test`) folder.

    Raises:
        ConfigError: the data set is incomplete; its `download:` key is never followed.
    """
    if data.is_dir() and not (data / "val").is_dir():
        return read_split(data, "test")
    return read_split(data, "val")


def read_split(data: Path, split: str) -> Dataset:
    """Read one split of a data YAML, or of a folder with a folder of that name. Raises as `read_dataset`."""
    if data.is_dir():
        return Dataset(images_of([data / split] if (data / split).is_dir() else []), ())
    said = _checked(data)
    return Dataset(images_of(said.get(split) or []), tuple(str(name) for name in said["names"].values()))


def spread(files: Sequence[Path], count: int) -> tuple[Path, ...]:
    """Return at most `count` files at even distances: data sets are often sorted by content."""
    return tuple(files[:: max(1, ceil(len(files) / count))])


def check_classes(model: Any, dataset: Dataset, data: Path) -> None:
    """Refuse a data set with other classes than the model's, whose figures would be silently wrong.

    Raises:
        ConfigError: the class names differ.
    """
    known = tuple(str(name) for name in dict(model.names).values())
    if dataset.names and dataset.names != known:
        raise ConfigError(
            f"{data} has other classes than the model: {_short(dataset.names)}",
            where="data: names",
            expected=_short(known),
        )


def _short(names: tuple[str, ...]) -> str:
    return f"{len(names)} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"


def _checked(data: Path) -> dict[str, Any]:
    from ultralytics.data.utils import check_det_dataset

    try:
        with quiet():
            found: dict[str, Any] = check_det_dataset(str(data), autodownload=False)
    except Exception as error:  # Ultralytics raises what it likes
        raise ConfigError(f"{data} is not a data set that can be used: {_said(error)}", where="data") from error
    return found


def _said(error: Exception) -> str:
    """Return the message without Ultralytics' hint on downloads: nothing is downloaded here."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("Note dataset download"))


def images_of(found: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    """Return the images of a split as `check_det_dataset` names it: folders, or text files that list images."""
    from ultralytics.data.utils import IMG_FORMATS

    places = [found] if isinstance(found, str | Path) else found
    files = (file for place in places for file in _listed(Path(place)))
    return tuple(file for file in files if file.suffix[1:].lower() in IMG_FORMATS)


def _listed(place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from sorted(file for file in place.rglob("*") if file.is_file())
    elif place.suffix == ".txt":
        lines = place.read_text(encoding="utf-8").split("\n")
        yield from (place.parent / line.strip() for line in lines if line.strip())
