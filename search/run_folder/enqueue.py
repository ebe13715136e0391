"""Candidates that a reader asks for while a search runs: enqueue/<name>.json of the run.

The coordinator alone writes study.db, so a page leaves a file here and the loop takes it in before it asks for the
next candidate. The file goes only after study.db knows the trial, and the trial carries the file's name: a cut in
between cannot enqueue it twice.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from search.errors import ConfigError, RunCorrupt
from search.run_folder.atomic import write_json
from search.run_folder.record import read_json
from search.trial import Candidate

FOLDER = "enqueue"
FORMAT = 1
MOST = 100
_log = logging.getLogger("search")


def leave_request(run: Path, candidate: Candidate) -> str:
    """Ask for a candidate; returns the request's name.

    Raises:
        ConfigError: MOST requests are waiting already.
    """
    folder = run / FOLDER
    if sum(1 for _ in folder.glob("*.json")) >= MOST:
        raise ConfigError(f"{MOST} candidates are waiting already", where=str(folder))
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"
    write_json(folder / f"{name}.json", {"format": FORMAT, "candidate": candidate.to_json()})
    return name


def waiting(run: Path) -> int:
    """How many candidates nobody has taken in yet."""
    return sum(1 for _ in (run / FOLDER).glob("*.json"))


@dataclass(frozen=True)
class Requests:
    """The folder as the loop sees it."""

    run: Path

    def __iter__(self) -> Iterator[Request]:
        """Oldest first; a file that is no candidate is set aside as `.refused`."""
        for path in sorted((self.run / FOLDER).glob("*.json")):
            try:
                content = read_json(path) or {}
                yield Request(path.stem, Candidate.from_json(content["candidate"]))
            except (RunCorrupt, KeyError, TypeError, ValueError, AttributeError) as error:
                _log.warning("%s is no request for a trial: %s", path, error)
                path.replace(path.with_suffix(".refused"))

    def done(self, requests: Iterable[Request]) -> None:
        """These are in study.db now."""
        for request in requests:
            (self.run / FOLDER / f"{request.name}.json").unlink(missing_ok=True)


@dataclass(frozen=True)
class Request:
    """A candidate that a person asks for; a name is enqueued once."""

    name: str
    candidate: Candidate
