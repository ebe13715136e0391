"""A study on disk.

    runs/prune/<name>/
      args.yaml env.json data.json study.db search.log results.csv pareto.csv snapshot.json run.lock ending.json
      base/{base.json,groups.json,base.onnx} latency/{<key>.json,final.json,kits/<id>.json,targets/<name>.json}
      bases/2/{base,sensitivity,latency}?      of the second base of a study of several
      baselines/<row>/{row.json,result.json} confirm/0017-1/result.json
      trials/0017/{candidate.json,result.json,progress.json,train.log,weights.pt?,samples/*.jpg,error.txt?}
      marks.json? enqueue/*.json?      notes and requests of the dashboard's users
      retried/0017.txt?                why a trial was run a second time

The primary records are study.db and each result.json, which the worker writes atomically. The rest is derived.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from objectives.runtimes.names import file_names
from search.errors import ConfigError, RunCorrupt
from search.run_folder.atomic import read_mapping, write_atomic, write_json
from search.run_folder.lock import RunLock
from search.trial import Candidate, Failure, Measurement, Origin, Outcome, Trial, TrialState, json_digest

FORMAT = 1
STUDY = "study"
"""Key of the digest of the whole study, among the content hashes in args.yaml."""
MISSHAPEN = (KeyError, TypeError, ValueError, AttributeError, IndexError)
"""What reading a file of another shape may raise."""
LAYERS = "layers.json"
"""In latency/: the latency model by layers, for the page."""
BATCHES = "batches"
BASES = "bases"
"""Folder of the bases beside the first: bases/2/{base,sensitivity,latency}, as those of the run itself."""
_REDUCED = ("base_fp16*", "base_int8*")
"""The base in the study's own precision, where that is no float32."""
_PREPARED = {
    "base": (
        "base.json",
        "groups.json",
        "whatif.json",
        "levels.json",
        *file_names("base"),
        *_REDUCED,
        "base-in-*",
        "scores-*.npz",
        "samples",
        BATCHES,
        "accuracy",
    ),
    "sensitivity": ("curves.json", "variants.json", "accuracy"),
    "latency": (
        "probes.json",
        "model.json",
        LAYERS,
        *file_names("probe"),
        "probe_*",
        "probe-in-*",
        "[0-9a-f]" * 16 + ".json",
    ),
}
"""What a preparation leaves in the run's folders, besides its log."""
_MOST_NAMED = 5
"""Trials of a list that an error names one by one."""


class RunRecord:
    """The folder of one run: every path and every file in it.

    Reading needs no lock; a writer holds `lock`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.lock = RunLock(self.path / "run.lock")

    @classmethod
    def existing(cls, path: Path) -> RunRecord:
        """Return the record at `path`. Raises ConfigError with the nearest name if there is none."""
        record = cls(path)
        if not record.args_path.is_file():
            raise _no_run(path)
        return record

    @property
    def args_path(self) -> Path:
        return self.path / "args.yaml"

    @property
    def base_dir(self) -> Path:
        return self.path / "base"

    @property
    def batches_dir(self) -> Path:
        """Folder of cached validation batches: derived, and removed when a search is finished."""
        return self.base_dir / BATCHES

    @property
    def snapshot_path(self) -> Path:
        return self.path / "snapshot.json"

    @property
    def study_db(self) -> Path:
        """The Optuna study, where it is not on a server."""
        return self.path / "study.db"

    @property
    def stop_path(self) -> Path:
        return self.path / "stop.request"

    def of_base(self, place: int) -> RunRecord:
        """Return the record in which a base of the study, counted from 0, is prepared; the run itself for the first."""
        return RunRecord(self.path / BASES / str(place + 1)) if place else self

    def further_bases(self) -> tuple[Measurement, ...]:
        """Return the measured bases beside the first, in their order; those before the first that was not measured."""
        found: list[Measurement] = []
        while (base := self.of_base(len(found) + 1).read_base()) is not None:
            found.append(base)
        return tuple(found)

    def trial_dir(self, number: int) -> Path:
        return self.path / "trials" / f"{number:04d}"

    def write_args(self, resolved: Mapping[str, Any], prints: Mapping[str, str]) -> None:
        """Write the resolved study, and the content hashes that make its trials comparable.

        With a `notify.command`, which often holds a secret (the address of a webhook), only its user can read it.
        """
        text = yaml.safe_dump({**resolved, "fingerprint": dict(prints)}, sort_keys=False, allow_unicode=True)
        is_open = not (resolved.get("notify") or {}).get("command")
        write_atomic(self.args_path, text, mode=0o644 if is_open else 0o600)

    def read_args(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Return (resolved study, content hashes)."""
        try:
            data = yaml.safe_load(self.args_path.read_text(encoding="utf-8"))
            return data, dict(data.pop("fingerprint", {}))
        except (yaml.YAMLError, RecursionError, *MISSHAPEN) as error:
            raise _corrupt(self.args_path, error) from error

    def origin(self) -> Origin:
        """Return what the run's results are made of; digests that an older version did not write are empty."""
        base, others = self.read_base(), self.further_bases()
        _, prints = self.read_args() if self.args_path.is_file() else ({}, {})
        made = [one.compared() for one in (base, *others) if one is not None]
        return Origin(prints.get(STUDY, ""), json_digest(made if others else made[0]) if made else "")

    def start_trial(self, number: int, candidate: Candidate, source: str) -> Path:
        """Create an empty folder for the trial, with candidate.json; leftovers of an interrupted run are removed."""
        folder = self.trial_dir(number)
        if folder.exists():
            shutil.rmtree(folder)
        write_json(folder / "candidate.json", candidate_row(number, candidate, source))
        return folder

    def write_outcome(
        self, number: int, outcome: Outcome, same_as: int | None = None, origin: Origin | None = None
    ) -> None:
        """Write result.json, and error.txt for a failure without one."""
        folder = self.trial_dir(number)
        write_outcome(folder, outcome, same_as, origin)
        if isinstance(outcome, Failure) and not (folder / "error.txt").exists():
            write_atomic(folder / "error.txt", outcome.message + "\n")

    def note_retry(self, number: int, text: str) -> None:
        """Record why a trial is retried; there is only one retry."""
        write_atomic(self._retry_path(number), text + "\n")

    def was_retried(self, number: int) -> bool:
        """Return whether the trial was retried."""
        return self._retry_path(number).is_file()

    def _retry_path(self, number: int) -> Path:
        return self.path / "retried" / f"{number:04d}.txt"

    def read_trial(self, number: int) -> Trial | None:
        """Return the trial as far as it is on disk, or None.

        A trial without result.json is `stopped` here: only a coordinator knows whether it runs.

        Raises:
            RunCorrupt: a file cannot be read, or is not of this run.
        """
        trial, fault = self._read_trial(number, self.origin())
        if fault is not None:
            raise self._foreign({number: fault})
        return trial

    def _read_trial(self, number: int, origin: Origin) -> tuple[Trial | None, str | None]:
        """Return a trial of the run of this origin, and why it is not of that run."""
        folder = self.trial_dir(number)
        asked = read_json(folder / "candidate.json")
        if asked is None:
            return None, None
        result = read_json(folder / "result.json")
        with well_formed(folder):
            candidate, source = Candidate.from_json(asked["candidate"]), str(asked["source"])
            if result is None:
                return Trial(number, TrialState.STOPPED, candidate, source=source), None
            outcome, same_as = _parse_outcome(result), result["same_as"]
            fault = foreign(result, origin.of(candidate))
        return finished_trial(number, candidate, source, outcome, same_as), fault

    def trials(self) -> tuple[Trial, ...]:
        """Return all trials on disk, by number.

        Raises:
            RunCorrupt: files cannot be read, or are not of this run; all such trials are named.
        """
        numbers = sorted(int(path.name) for path in (self.path / "trials").glob("[0-9]*") if path.name.isdecimal())
        origin = self.origin() if numbers else Origin()
        found = {number: self._read_trial(number, origin) for number in numbers}
        faults = {number: fault for number, (_, fault) in found.items() if fault is not None}
        if faults:
            raise self._foreign(faults)
        return tuple(trial for trial, _ in found.values() if trial is not None)

    def _foreign(self, faults: Mapping[int, str]) -> RunCorrupt:
        named = [f"trial {number}: {fault}" for number, fault in list(faults.items())[:_MOST_NAMED]]
        rest = [f"and {len(faults) - _MOST_NAMED} more"] if len(faults) > _MOST_NAMED else []
        return RunCorrupt(
            f"results that are not of this run, or were changed: {'; '.join(named + rest)}",
            where=str(self.path / "trials"),
            expected="each result.json as paretoprune wrote it for the candidate.json beside it",
            next_command="restore them from a copy, or start a new run with name=NEW_NAME",
        )

    def write_base(self, base: Measurement) -> None:
        write_json(self.base_dir / "base.json", {"format": FORMAT, "measurement": base.to_json()})

    def read_base(self) -> Measurement | None:
        """Return the measured base; None before it was measured."""
        data = read_json(self.base_dir / "base.json")
        with well_formed(self.base_dir / "base.json"):
            return None if data is None else Measurement.from_json(data["measurement"])

    def write_groups(self, groups: Sequence[Mapping[str, Any]]) -> None:
        write_json(self.base_dir / "groups.json", {"format": FORMAT, "groups": [dict(row) for row in groups]})

    def read_groups(self) -> list[dict[str, Any]]:
        """Return the rows of the group table; empty before the model was traced."""
        data = read_json(self.base_dir / "groups.json")
        with well_formed(self.base_dir / "groups.json"):
            return [] if data is None else [dict(row) for row in data["groups"]]

    def write_environment(self, environment: Mapping[str, str]) -> None:
        write_json(self.path / "env.json", dict(environment))

    def read_environment(self) -> dict[str, str]:
        """Return the environment of the run; empty before it started."""
        return read_json(self.path / "env.json") or {}

    def read_snapshot(self) -> dict[str, Any] | None:
        """Return the last snapshot; None if unreadable: it is derived and can be written again."""
        return read_mapping(self.snapshot_path)

    def discard_preparation(self) -> None:
        """Delete what a start that failed has prepared: it may have been one of another study. Its logs stay.

        By name, since nothing else says that a folder without args.yaml is a run and not a user's own.
        """
        for further in (self.path / BASES).glob("[0-9]*"):
            RunRecord(further).discard_preparation()
        for folder, names in _PREPARED.items():
            for path in (path for name in names for path in (self.path / folder).glob(name)):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def tidy(self) -> None:
        """Remove temporary files of a killed process from the run's own folder."""
        for part in self.path.glob(".*.part"):
            part.unlink(missing_ok=True)

    @property
    def ending_path(self) -> Path:
        """File with the reason why the last session ended, and whether its final steps are done."""
        return self.path / "ending.json"

    def read_ending(self) -> dict[str, Any] | None:
        """Return the content of ending.json, or None."""
        return read_json(self.ending_path)

    def request_stop(self) -> None:
        """Ask the coordinator to end; it checks several times a second."""
        write_atomic(self.stop_path, "stop\n")


def write_outcome(folder: Path, outcome: Outcome, same_as: int | None = None, origin: Origin | None = None) -> None:
    """Write a trial's result.json atomically."""
    write_json(folder / "result.json", outcome_row(outcome, same_as, origin))


def candidate_row(number: int, candidate: Candidate, source: str) -> dict[str, Any]:
    """Return the content of a trial's candidate.json."""
    return {"format": FORMAT, "number": number, "source": source, "candidate": candidate.to_json()}


def outcome_row(outcome: Outcome, same_as: int | None = None, origin: Origin | None = None) -> dict[str, Any]:
    """Return the content of a trial's result.json: the outcome, what it was made of, and a digest of all this."""
    row = {
        "format": FORMAT,
        "state": state_of(outcome).value,
        "same_as": same_as,
        "measurement" if isinstance(outcome, Measurement) else "failure": outcome.to_json(),
    }
    return sealed(row, origin)


def sealed(content: Mapping[str, Any], origin: Origin | None) -> dict[str, Any]:
    """Return the content of a file with what it was made of, and a digest of all this; `foreign` checks both."""
    row = {**content, "made_of": None if origin is None else origin.to_json()}
    return {**row, "digest": json_digest(json.loads(json.dumps(row, allow_nan=False)))}


def foreign(content: Mapping[str, Any], origin: Origin) -> str | None:
    """Return why `sealed` content is not of this origin; None if it is, or if it is older than digests (0.1)."""
    if "digest" not in content:
        return None
    if json_digest({key: value for key, value in content.items() if key != "digest"}) != content["digest"]:
        return "the result was changed after it was written"
    if content.get("made_of") is None:
        return None
    made = Origin.from_json(content["made_of"])
    if made.study != origin.study:
        return "the result is of another study (args.yaml)"
    if made.base != origin.base:
        return "the result was measured beside another base (base/base.json)"
    return None if made.candidate == origin.candidate else "the result is of another candidate (candidate.json)"


def read_outcome(folder: Path, origin: Origin | None = None) -> tuple[Outcome, int | None]:
    """Return the outcome of `write_outcome`, and the number of the trial that it copies.

    Raises OSError, ValueError, KeyError or TypeError if there is nothing readable, or nothing of this origin;
    RunCorrupt for a newer format.
    """
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    check_known(result, FORMAT, folder / "result.json")
    if origin is not None and (fault := foreign(result, origin)) is not None:
        raise ValueError(f"{folder}: {fault}")
    return _parse_outcome(result), result["same_as"]


def acknowledged(folder: Path) -> Measurement | None:
    """Return the measurement that a worker has saved; None if there is no readable one."""
    try:
        outcome, _ = read_outcome(folder)
    except (OSError, *MISSHAPEN):
        return None
    return outcome if isinstance(outcome, Measurement) else None


def state_of(outcome: Outcome) -> TrialState:
    """Return the state of a trial with this outcome."""
    if isinstance(outcome, Failure):
        return TrialState.FAILED
    return TrialState.SCREENED if outcome.screened else TrialState.COMPLETE


def finished_trial(
    number: int, candidate: Candidate, source: str, outcome: Outcome, same_as: int | None = None
) -> Trial:
    """Return the record of a trial that ended."""
    if isinstance(outcome, Failure):
        return Trial(number, TrialState.FAILED, candidate, failure=outcome, source=source)
    return Trial(number, state_of(outcome), candidate, outcome, source=source, same_as=same_as)


def _parse_outcome(result: Mapping[str, Any]) -> Outcome:
    if result["state"] != TrialState.FAILED:
        return Measurement.from_json(result["measurement"])
    return Failure.from_json(result["failure"])


def read_json(path: Path, newest: int = FORMAT) -> dict[str, Any] | None:
    """Read a JSON mapping of at most the format `newest`; None if the file is missing.

    Raises:
        RunCorrupt: anything else, or a file of a newer version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise _corrupt(path, error) from error
    if not isinstance(data, dict):
        raise _corrupt(path, TypeError("not a mapping"))
    check_known(data, newest, path)
    return data


def check_known(data: Any, newest: int, path: Path) -> None:
    """Raise RunCorrupt if a mapping says a format above `newest`, or none that there can be.

    A file without a format number (env.json) is what it is.
    """
    found = data.get("format", newest) if isinstance(data, dict) else newest
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise _corrupt(path, ValueError(f"its format is {str(found)[:40]!r}"))
    if found > newest:
        raise RunCorrupt(
            f"written by a newer version: its format is {found}",
            where=str(path),
            expected=f"format {newest} or older",
            next_command="pip install --upgrade paretoprune",
        )


@contextmanager
def well_formed(path: Path) -> Iterator[None]:
    """Translate the errors of reading a mapping of another shape, inside, to RunCorrupt."""
    try:
        yield
    except MISSHAPEN as error:
        raise _corrupt(path, error) from error


def _corrupt(path: Path, error: Exception) -> RunCorrupt:
    what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
    return RunCorrupt(
        f"damaged, cannot be read: {what}",
        where=str(path),
        expected="the file as paretoprune wrote it",
        next_command="restore it from a copy, or start a new run with name=NEW_NAME",
    )


def _no_run(path: Path) -> ConfigError:
    from search.errors import near_miss

    beside = [item.parent.name for item in path.parent.glob("*/args.yaml")]
    near = near_miss(path.name, beside)
    return ConfigError(
        f"no run at {path}",
        expected="a folder with args.yaml, made by paretoprune search",
        near=str(path.parent / near) if near else None,
        next_command="paretoprune ls",
    )
