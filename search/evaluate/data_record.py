"""data.json of a run: the contents of the data that its trials are measured on, and the images that they leave out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from search.config.inputs.data_contents import FORMAT, DataContents, contents_of, contents_of_files, differences
from search.config.inputs.dataset import LabelRules, open_dataset
from search.config.inputs.user_code import UserReference
from search.config.spec import StudySpec
from search.errors import NotComparable, RunCorrupt
from search.run_folder.atomic import read_mapping, write_json
from search.run_folder.record import MISSHAPEN, check_known

FILE = "data.json"


def record_data(
    spec: StudySpec, model: Any, run: Path, *, is_measured: bool, beat: Callable[[], None] = lambda: None
) -> DataContents:
    """Read the study's data and write data.json to the folder `run`, or check that the data are those of the run.

    Args:
        is_measured: the base was measured, so that data may not change any more. A run without data.json was made
            by a version that knew names and sizes only; from here on its contents are known.
        beat: called after every image.

    Raises:
        ConfigError: the data cannot be used. NotComparable: they are others; names what changed.
        RunCorrupt: data.json is damaged, or written by a newer version.
    """
    before = read_data_record(run)
    found = _contents(spec, model, before, beat)
    if before is not None and is_measured:
        _check_same(before, found, spec, run)
    if before != found:
        write_json(run / FILE, found.to_json())
    return found


def check_data(spec: StudySpec, model: Any, run: Path, beat: Callable[[], None] = lambda: None) -> None:
    """Check that the study's data are those that a run was measured on; nothing is known of runs without data.json.

    Raises:
        ConfigError: the data cannot be used. NotComparable: they are others; names what changed.
        RunCorrupt: data.json is damaged, or written by a newer version.
    """
    before = read_data_record(run)
    if before is not None:
        _check_same(before, _contents(spec, model, before, beat), spec, run)


def _check_same(before: DataContents, found: DataContents, spec: StudySpec, run: Path) -> None:
    if rows := differences(before, found):
        raise NotComparable(
            f"the data are not those that {run} was measured on:\n" + "\n".join(f"  {row}" for row in rows),
            where=spec.data,
            expected="the same images and labels",
            next_command="put them back, or start a new run with name=NEW_NAME",
        )


def read_data_record(run: Path) -> DataContents | None:
    """Return the contents in data.json; None if there is no such file.

    Raises:
        RunCorrupt: it is damaged, or written by a newer version.
    """
    path = run / FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        check_known(data, FORMAT, path)
        return DataContents.from_json(data)
    except FileNotFoundError:
        return None
    except (*MISSHAPEN, RecursionError) as error:
        what = f"{path} cannot be read: {error}"
        raise RunCorrupt(what, next_command=f"search with the same data: rm {path}, then resume") from error


def data_digest(run: Path) -> str | None:
    """Return the digest of the data that a run was measured on; None for a run of a version before data.json."""
    found = read_mapping(run / FILE)
    return None if found is None else str(found.get("sha256"))


def _contents(spec: StudySpec, model: Any, before: DataContents | None, beat: Callable[[], None]) -> DataContents:
    own = UserReference.parse(spec.data)
    if own is None:
        return contents_of(open_dataset(Path(spec.data), LabelRules.of(model)), before, beat)
    place = None if own.data is None else Path(own.data)
    return DataContents("") if place is None or not place.exists() else contents_of_files(place, before, beat)
