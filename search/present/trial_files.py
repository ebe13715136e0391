"""Files of a run that the page may show, and the details of one trial."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from search.results.exported_points import point_path
from search.results.snapshot_reader import id_of
from search.run_folder.artefact_files import inside
from search.run_folder.atomic import read_mapping
from search.trial import PointId

TYPES = {
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".txt": "text/plain",
    ".log": "text/plain",
    ".md": "text/plain",
}
"""What a browser may show; everything else is offered as a download."""

_OF_A_TRIAL = ("candidate.json", "result.json", "train.log", "error.txt", "weights.pt")

Address = Callable[[Path], str]


def trial_folder(run: Path, number: int) -> Path:
    """Return the trial's folder."""
    return run / "trials" / f"{number:04d}"


def files_of(run: Path, point: PointId) -> list[Path]:
    """The trial's files, or the figures of an export; then what was delivered of the trial: its picks."""
    folder = trial_folder(run, point.trial)
    own = [point_path(run, point)] if point.precision else [folder / name for name in _OF_A_TRIAL]
    found = [*filter(Path.is_file, own), *_delivered(run, point.trial)]
    return [path for path in found if inside(run, path)]


def samples_of(run: Path, folder: Path) -> list[Path]:
    """Return the sample images of a trial or of base/, in order; links that lead out of the run are left out."""
    found = sorted((folder / "samples").glob("[0-9]*.jpg"), key=lambda path: (len(path.stem), path.stem))
    return [path for path in found if inside(run, path)]


def details(run: Path, point: PointId, address: Address) -> dict[str, Any]:
    """{"files": [{"name", "bytes", "address"}], "samples": [address]}; an export was drawn on no images.

    Args:
        address: returns a file's address for the page: of a server, or the content itself.
    """
    files = [
        {"name": _name(run, path), "bytes": path.stat().st_size, "address": address(path)}
        for path in files_of(run, point)
    ]
    samples = [] if point.precision else samples_of(run, trial_folder(run, point.trial))
    return {"files": files, "samples": [address(path) for path in samples]}


def data_address(path: Path) -> str:
    """Return the image as a data URL; "" if it is no image."""
    if path.suffix != ".jpg":
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _delivered(run: Path, number: int) -> Iterator[Path]:
    for folder in sorted((run / "picks").glob("*")):
        if folder.name == f"trial-{number:04d}" or _picked(folder) == number:
            yield from sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _picked(folder: Path) -> int | None:
    found = read_mapping(folder / "pick.json") or {}
    trial = found.get("trial")
    return PointId.parse(id_of(trial)).trial if isinstance(trial, dict) and "number" in trial else None


def _name(run: Path, path: Path) -> str:
    return str(path.relative_to(run))


def fitting(wanted: list[str], run: Path, room: int) -> dict[str, Any]:
    """Details of as many trials and exports, by id, as fit into `room` bytes of JSON, in the order wanted."""
    found: dict[str, Any] = {}
    for point in wanted:
        one = details(run, PointId.parse(point), data_address)
        size = len(json.dumps(one))
        if size <= room:
            found[point] = one
            room -= size
    return found
