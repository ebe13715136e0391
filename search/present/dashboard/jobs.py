"""Background jobs of the page: one command line at a time, with its output streamed by line."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from search.errors import ConfigError

PARETOPRUNE = (sys.executable, "-P", "-m", "search.cli")  # -P: not the search.py of a user in the working folder
_LINES = 40
_LONGEST = 400

Launch = Callable[[Sequence[str]], "subprocess.Popen[str]"]


def launch(words: Sequence[str]) -> subprocess.Popen[str]:
    """Start `paretoprune WORDS` in a process group of its own, with its output as text lines."""
    return subprocess.Popen(
        [*PARETOPRUNE, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


@dataclass
class Job:
    """One command: `state` is running, done or failed; `lines` are its last output."""

    number: int
    kind: str
    run: str
    trial: int | None
    command: str
    state: str = "running"
    began: float = field(default_factory=time.monotonic)
    seconds: float | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LINES))
    result: Any = None

    def to_json(self) -> dict[str, Any]:
        """Return the job as the page shows it."""
        seconds = time.monotonic() - self.began if self.seconds is None else self.seconds
        keys = ("number", "kind", "run", "trial", "command", "state", "result")
        return {**{key: getattr(self, key) for key in keys}, "seconds": round(seconds), "lines": list(self.lines)}


class Jobs:
    """Runs commands, one at a time: concurrent exports would disturb each other's latencies.

    Args:
        launch: starts a command; tests pass their own.
    """

    def __init__(self, launch: Launch = launch) -> None:
        self._launch = launch
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self.jobs: list[Job] = []

    def start(self, kind: str, run: str, trial: int | None, words: Sequence[str]) -> Job:
        """Start `paretoprune WORDS`.

        Raises:
            ConfigError: another job is running.
        """
        with self._lock:
            busy = next((job for job in self.jobs if job.state == "running"), None)
            if busy is not None:
                raise ConfigError(f"{busy.kind} is still running", expected="one job at a time")
            job = Job(next(self._numbers), kind, run, trial, " ".join(["paretoprune", *words]))
            self._process = self._launch(words)
            self.jobs = [*self.jobs[-19:], job]
        threading.Thread(target=self._follow, args=(job, self._process), daemon=True).start()
        return job

    def of(self, run: str) -> list[dict[str, Any]]:
        """Return the jobs of a run, oldest first."""
        return [job.to_json() for job in self.jobs if job.run == run]

    def close(self) -> None:
        """Kill the running command."""
        process = self._process
        if process is not None and process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)

    def _follow(self, job: Job, process: subprocess.Popen[str]) -> None:
        stdout, stderr = process.stdout, process.stderr
        if stdout is None or stderr is None:
            raise ValueError("a job is followed by its pipes, and this one was opened without")
        said = threading.Thread(
            target=lambda: job.lines.extend(line.rstrip()[:_LONGEST] for line in stderr), daemon=True
        )
        said.start()
        text = ""
        for line in stdout:
            text += line
            if not line.lstrip().startswith(("{", "}", '"', "]", "[")):
                job.lines.append(line.rstrip()[:_LONGEST])
        code = process.wait()
        said.join(5)
        stdout.close()
        stderr.close()
        job.result = _json(text)
        job.seconds = time.monotonic() - job.began
        job.state = "done" if code == 0 else "failed"


def _json(text: str) -> Any:
    """Parse the output of a command with `-f json`; None for anything else."""
    try:
        return json.loads(text)
    except ValueError:
        return None
