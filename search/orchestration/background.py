"""Run a search without a terminal: the same command in a session of its own, with its output in a file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from search.config.yaml_source import parse_overrides
from search.errors import INTERNAL, ParetoPruneError
from search.run_folder.record import RunRecord

PARETOPRUNE = (sys.executable, "-P", "-m", "search.cli")  # -P: not the search.py of a user in the working folder
HIDDEN = ("storage", "notify", "notify.command")
"""Keys whose value may hold a secret: a password, or the address of a webhook."""
WORDS_VARIABLE = "PARETOPRUNE_DETACHED_WORDS"
"""Hands such words to a detached process: its arguments can be read by everybody on the machine, this only by its user.
"""
_WAIT_S = 60.0
_POLL_S = 0.05
_STARTED: list[subprocess.Popen[bytes]] = []
"""Python warns of a process that is forgotten before it ends, and these are meant to be."""


class DetachedFailed(ParetoPruneError):
    """The search did not start; carries the exit code and output of the process."""


def detach(
    words: Sequence[str], record: RunRecord, *, command: Sequence[str] = PARETOPRUNE, wait_s: float = _WAIT_S
) -> dict[str, Any]:
    """Start `paretoprune WORDS` without a terminal and wait until it holds the run's lock.

    Returns {"pid", "run", "log"}: the log is beside the run, since a run that cannot start leaves no folder.

    Raises:
        DetachedFailed: it ended before it held the run; with its exit code.
    """
    shown, hidden = without_secrets(words)
    log = record.path.with_name(f"{record.path.name}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    begin = log.stat().st_size if log.exists() else 0
    with log.open("ab") as file:
        process = subprocess.Popen(
            [*command, *shown],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **hidden},
        )
    _STARTED.append(process)
    _wait_for(lambda: process.poll() is not None or _is_owner(record, process.pid), wait_s)
    if process.poll():
        error = DetachedFailed(_said(log, begin) or "the search did not begin", where=str(log))
        error.exit_code = process.returncode if process.returncode > 0 else INTERNAL
        raise error
    return {"pid": process.pid, "run": str(record.path), "log": str(log)}


def without_secrets(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Split off the words that may hold a secret (`HIDDEN`).

    Returns (the other words, variables for the environment).
    """
    hidden = [word for word in words if word.partition("=")[0].strip() in HIDDEN]
    shown = [word for word in words if word not in hidden]
    return shown, {WORDS_VARIABLE: json.dumps(hidden)} if hidden else {}


def handed_over() -> dict[str, Any]:
    """Return the overrides that the process that detached this one handed over; once, then {}.

    They are read as from the command line: `storage=null` is None.
    """
    said = os.environ.pop(WORDS_VARIABLE, None)
    return {} if said is None else parse_overrides(json.loads(said))


def _is_owner(record: RunRecord, pid: int) -> bool:
    return record.lock.is_held() and record.lock.owner().startswith(f"pid {pid} on ")


def _wait_for(condition: Callable[[], bool], limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while not condition() and time.monotonic() < end:
        time.sleep(_POLL_S)


def _said(log: Path, begin: int) -> str:
    """Return the process's output from its error on, without the label that this process prints before it."""
    with log.open("rb") as file:
        file.seek(begin)
        said = file.read().decode(errors="replace").strip()
    return re.split(r"^error: ", said, maxsplit=1, flags=re.MULTILINE)[-1]
