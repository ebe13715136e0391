"""Callbacks: what happens during a search, told to whoever follows it.

    on_search_start    once a session, when the base is measured
      on_trial_start   }
      on_trial_end     } each trial; with several workers they overlap
      on_front_changed   after a trial, or after the final steps
    on_search_end      however the session ends

A session whose preparation fails, before `on_search_start`, has none of these: `Study.search` raises, and that is all.
`on_note`, `on_activity` and `on_progress` are what a display needs besides.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from search.trial import PointId, Trial

if TYPE_CHECKING:
    from search.orchestration.loop import Progress
    from search.study import Study

_log = logging.getLogger("search")


class Callback:
    """Follows a search. Override the methods that you need; each does nothing.

    They are called in the process and thread of `Study.search`. Trials that run go on meanwhile, but no further one
    starts, so a method should not take long. An exception never ends the search: it is written to search.log and noted
    once, and this callback is not called again in the session. `study.stop()` ends a search; `study.trials()`,
    `study.front()`, `study.base()` and `study.pick()` are as of this moment.
    """

    def on_search_start(self, study: Study) -> None:
        """Called when the base is measured and the first trial of this session is about to be proposed."""

    def on_trial_start(self, study: Study, trial: Trial) -> None:
        """Called when a trial is about to be measured: it has a number, a source and a candidate.

        Called again if the trial is, after an accident or an interruption. Copies of a measured network start, too.
        """

    def on_trial_end(self, study: Study, trial: Trial) -> None:
        """Called when a trial is measured, screened or failed, and recorded."""

    def on_front_changed(self, study: Study, front: tuple[Trial, ...]) -> None:
        """Called after the trial, or the final measurement, by which other trials are on the front than before."""

    def on_search_end(self, study: Study, error: BaseException | None) -> None:
        """Called when the session has ended and everything is written.

        Args:
            error: None if a limit was reached; `search.errors.Interrupted` if somebody asked to stop; otherwise why the
                search could not go on. At a second Ctrl-C, which does not wait for the first, a bare KeyboardInterrupt.
        """

    def on_note(self, study: Study, text: str) -> None:
        """Called with a sentence about the run that its user should read."""

    def on_activity(self, study: Study, text: str) -> None:
        """Called several times a second before the first and after the last trial, with what is being measured."""

    def on_progress(self, study: Study, progress: Progress) -> None:
        """Called several times a second while trials run."""


class Callbacks:
    """The callbacks of one session; one that raises is dropped."""

    def __init__(self, study: Study, callbacks: Iterable[Callback]) -> None:
        self._study = study
        self._callbacks = list(callbacks)
        self._front: set[PointId] = set()

    def tell(self, event: Callable[[Callback], None]) -> None:
        """Call a method of each, in their order."""
        for one in tuple(self._callbacks):
            if not any(one is kept for kept in self._callbacks):
                continue  # dropped meanwhile, at being told that another was
            try:
                event(one)
            except Exception as error:
                self._drop(one, error)

    def note(self, text: str) -> None:
        """Tell a sentence about the run."""
        self.tell(lambda one: one.on_note(self._study, text))

    def activity(self, text: str) -> None:
        """Tell what is being measured outside of the trials."""
        self.tell(lambda one: one.on_activity(self._study, text))

    def start(self, front: Sequence[Trial]) -> None:
        """Tell that a session starts, with the front of earlier ones."""
        self._front = {trial.id for trial in front}
        self.tell(lambda one: one.on_search_start(self._study))

    def front(self, front: tuple[Trial, ...]) -> None:
        """Tell the front if it is of other trials than before."""
        now = {trial.id for trial in front}
        if now != self._front:
            self._front = now
            self.tell(lambda one: one.on_front_changed(self._study, front))

    def _drop(self, dropped: Callback, error: Exception) -> None:
        self._callbacks = [one for one in self._callbacks if one is not dropped]
        name = type(dropped).__name__
        _log.error("%s raised; it is not called again in this session\n%s", name, _without_secrets(_traceback(error)))
        said = _without_secrets(f"{type(error).__name__}: {error}")
        self.note(f"{name} is not called any more: {said} (search.log has the traceback)")


def _traceback(error: Exception) -> str:
    return "".join(traceback.format_exception(error)).rstrip()


def _without_secrets(text: str) -> str:
    """Return a text without the users and passwords of addresses, such as that of a tracking server."""
    return re.sub(r"://\S*@", "://...@", text)
