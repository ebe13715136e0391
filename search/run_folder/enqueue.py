"""Candidates enqueued by a user during a search: enqueue/<name>.json of the run.

Only the coordinator writes study.db, so the dashboard writes a file here, which the loop enqueues before the next ask.
The file is deleted only after study.db has the trial, which stores the file's name: an interruption cannot enqueue it
twice.
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
    """Enqueue a candidate; return the request's name.

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
    """Count the candidates that are still waiting."""
    return sum(1 for _ in (run / FOLDER).glob("*.json"))


@dataclass(frozen=True)
class Requests:
    """The folder of requests, for the loop."""

    run: Path

    def __iter__(self) -> Iterator[Request]:
        """Yield requests, oldest first; an invalid file is renamed to `.refused`."""
        for path in sorted((self.run / FOLDER).glob("*.json")):
            try:
                content = read_json(path, FORMAT) or {}
                yield Request(path.stem, Candidate.from_json(content["candidate"]))
            except (RunCorrupt, KeyError, TypeError, ValueError, AttributeError) as error:
                _log.warning("%s is no request for a trial: %s", path, error)
                path.replace(path.with_suffix(".refused"))

    def done(self, requests: Iterable[Request]) -> None:
        """Delete requests that are in study.db now."""
        for request in requests:
            (self.run / FOLDER / f"{request.name}.json").unlink(missing_ok=True)


@dataclass(frozen=True)
class Request:
    """A candidate requested by a user; a name is enqueued once."""

    name: str
    candidate: Candidate
