"""Mailbox actor between the coordinator and Ray Tune, which are two processes under `ray://`. Imports no Ray."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from search.workers.engine import Job


@dataclass(frozen=True)
class News:
    """A message of Tune about a job: its progress, or its end, with its folder (`parcel`) or lost."""

    number: int
    standing: str = ""
    ended: bool = False
    parcel: Any = None
    cause: str = ""


class Desk:
    """The mailbox: jobs to Tune, messages from it."""

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._out: set[int] = set()
        self._news: list[News] = []
        self._closed = False

    def hand(self, job: Job) -> None:
        self._jobs.append(job)

    def take(self) -> tuple[Job | None, bool]:
        """Return the next job, and whether Tune has no other."""
        job = self._jobs.popleft() if self._jobs else None
        if job is not None:
            self._out.add(job.number)
        return job, not self._out

    def tell(self, news: News) -> None:
        if news.ended:
            self._out.discard(news.number)
        self._news.append(news)

    def collect(self) -> list[News]:
        found, self._news = self._news, []
        return found

    def clear(self) -> None:
        """Forget Tune's jobs after its restart."""
        self._jobs.clear()
        self._out.clear()

    def close(self) -> None:
        self._closed = True

    def is_closed(self) -> bool:
        return self._closed
