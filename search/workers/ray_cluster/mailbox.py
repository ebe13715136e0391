"""Mailbox actor between the coordinator and Ray Tune, which are two processes under `ray://`. Imports no Ray."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Any

from search.trial import Failure, FailureKind

_NO_OUTCOME = Failure(FailureKind.LOST, "its files came home without its result")


@dataclass(frozen=True)
class News:
    """What happened to a job: how far it is, or that it ended, with its folder (`parcel`) and `outcome`, or lost."""

    number: int
    progress: str = ""
    ended: bool = False
    parcel: Any = None
    outcome: Any = None
    cause: str = ""


class Mailbox:
    """An actor between the coordinator, Tune and the workers: jobs in, news and outcomes out.

    Tune itself knows jobs by their numbers only: it keeps and saves everything that it ever knew. A job lies here as
    the list of its one Ray reference, which is not loaded in this process.
    """

    def __init__(self) -> None:
        self._jobs: dict[int, list[Any]] = {}
        self._waiting: deque[int] = deque()
        self._outcomes: dict[int, Any] = {}
        self._news: list[News] = []
        self._closed = False

    def hand(self, number: int, job: list[Any]) -> None:
        self._jobs[number] = job
        self._waiting.append(number)

    def take(self) -> tuple[int | None, bool]:
        """The number of the next job, and whether Tune has no other."""
        number = self._waiting.popleft() if self._waiting else None
        return number, self._jobs.keys() <= set(self._waiting)

    def job(self, number: int) -> list[Any]:
        """For the worker that runs it; once more where the first was lost."""
        return self._jobs[number]

    def keep(self, number: int, outcome: Any) -> None:
        """How a job ended on its worker; told when its files are on the storage path."""
        self._outcomes[number] = outcome

    def tell(self, news: News) -> None:
        if news.ended:
            if news.number not in self._waiting:
                self._jobs.pop(news.number, None)
            news = replace(news, outcome=self._outcomes.pop(news.number, _NO_OUTCOME))
        self._news.append(news)

    def collect(self) -> list[News]:
        found, self._news = self._news, []
        return found

    def clear(self) -> None:
        """Forget Tune's jobs after its restart."""
        self._jobs.clear()
        self._waiting.clear()
        self._outcomes.clear()

    def close(self) -> None:
        self._closed = True

    def is_closed(self) -> bool:
        return self._closed
