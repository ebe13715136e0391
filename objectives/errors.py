"""What can go wrong in this room.

    ObjectivesError
    ├── ObjectiveError      caller: an unknown objective, or a row without the figure that is asked for
    ├── BoundError          caller: a budget that cannot be read or makes no sense
    ├── AccuracyError       caller or data: wrong classes, an empty split, a model that cannot be validated
    ├── LatencyError        world: an artefact that cannot be timed, a lock that is held; may be tried again
    │   └── CommandFailed   world: a user's timing program timed out, failed or printed no milliseconds
    ├── BackendMissing      world: a package is not installed; carries the line that installs it
    │   └── ProgramMissing  world: the program of a `command:` is not there or may not be executed
    └── NothingFits         an answer, not a fault: no row is within the budgets; carries the closest one

Every message says what happened, where, what was expected, and what to do next.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class ObjectivesError(Exception):
    """Base of this room's exceptions."""


class ObjectiveError(ObjectivesError, ValueError):
    """An objective that does not exist, or a row that does not have its figure."""


class BoundError(ObjectivesError, ValueError):
    """A budget that cannot be read, or that bounds the wrong side."""


class AccuracyError(ObjectivesError):
    """The accuracy of a model on a split could not be measured."""


class LatencyError(ObjectivesError):
    """An artefact could not be exported for timing, opened or timed."""


class CommandFailed(LatencyError):
    """A `command:` runtime did not give milliseconds.

    `reason` is start, timeout, exit or output; `tail` holds the last lines that the program printed.
    """

    def __init__(self, reason: str, sentence: str, tail: tuple[str, ...] = ()) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.tail = tail

    def __reduce__(self) -> tuple[type[CommandFailed], tuple[str, str, tuple[str, ...]]]:
        return CommandFailed, (self.reason, str(self), self.tail)


class BackendMissing(ObjectivesError):
    """A runtime's package is not installed. `install` is the line that gets it."""

    def __init__(self, package: str, *, needed_for: str, install: str) -> None:
        super().__init__(f"{package} is not installed, and {needed_for} needs it. Install it with: {install}")
        self.package = package
        self.install = install


class ProgramMissing(BackendMissing):
    """The program of a `command:` runtime cannot be found, or is a file that may not be executed."""

    def __init__(self, program: str, runtime: str) -> None:
        self.install = f"chmod +x {program}" if Path(program).is_file() else "name a program that is there"
        Exception.__init__(self, f"{program} cannot be executed, and runtime={runtime} needs it. Next: {self.install}")
        self.package = program


class NothingFits(ObjectivesError):
    """No row is within the budgets.

    `closest` is the index of the row that misses them least, `sentence` says so with figures, and `reach`
    holds, for each budget that this row misses, the limit that would let it in.
    """

    def __init__(self, closest: int, sentence: str, reach: Mapping[str, float]) -> None:
        super().__init__(sentence)
        self.closest = closest
        self.sentence = sentence
        self.reach = dict(reach)
