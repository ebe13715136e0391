"""Exceptions of the package.

    ObjectivesError
    ├── ObjectiveError      caller: an unknown objective, or a row without the figure that is asked for
    ├── BoundError          caller: a budget that cannot be read or makes no sense
    ├── AccuracyError       caller or data: wrong classes, an empty split, a model that cannot be validated
    ├── LatencyError        world: an artefact that cannot be timed, a lock that is held; may be tried again
    │   └── CommandFailed   world: a user's timing program timed out, failed or printed no milliseconds
    ├── BackendMissing      world: a package is not installed; carries the line that installs it
    │   ├── ProgramMissing  world: the program of a `command:` is not there or may not be executed
    │   └── CounterMissing  world: no counter of energy can be read; carries how it could be
    └── NothingFits         an answer, not a fault: no row is within the budgets; carries the closest one

Every message names the fault, its place, what was expected and the next step.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class ObjectivesError(Exception):
    """Base class of the package's exceptions."""


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

    `reason` is start, timeout, exit or output; `tail` holds the program's last lines.
    """

    def __init__(self, reason: str, sentence: str, tail: tuple[str, ...] = ()) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.tail = tail

    def __reduce__(self) -> tuple[type[CommandFailed], tuple[str, str, tuple[str, ...]]]:
        return CommandFailed, (self.reason, str(self), self.tail)


class BackendMissing(ObjectivesError):
    """A runtime's package is not installed. `install` is the command that installs it."""

    def __init__(self, package: str, *, needed_for: str, install: str) -> None:
        super().__init__(f"{package} is not installed, and {needed_for} needs it. Install it with: {install}")
        self.package = package
        self.install = install


class ProgramMissing(BackendMissing):
    """The program of a `command:` runtime is missing or not executable."""

    def __init__(self, program: str, runtime: str) -> None:
        self.install = f"chmod +x {program}" if Path(program).is_file() else "name a program that is there"
        Exception.__init__(self, f"{program} cannot be executed, and runtime={runtime} needs it. Next: {self.install}")
        self.package = program


class CounterMissing(BackendMissing):
    """This machine has no counter of energy that this process may read. `install` is what would change that."""

    def __init__(self, what: str, *, install: str) -> None:
        Exception.__init__(self, f"{what}, and energy_mj needs it. Next: {install}")
        self.package = "a counter of energy"
        self.install = install


class NothingFits(ObjectivesError):
    """No row is within the budgets.

    `closest` is the index of the row that misses them least, `sentence` describes it with figures, and `reach` maps
    each budget that it misses to the limit that would admit it.
    """

    def __init__(self, closest: int, sentence: str, reach: Mapping[str, float]) -> None:
        super().__init__(sentence)
        self.closest = closest
        self.sentence = sentence
        self.reach = dict(reach)
