"""A callback made of functions, for tests: `Hearing(on_note=lambda study, text: notes.append(text))`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from search import Callback


class Fault(BaseException):
    """What a function raised: a search drops a callback that raises, but a test must fail."""


class Hearing(Callback):
    def __init__(self, **functions: Callable[..., object]) -> None:
        for name, function in functions.items():
            assert hasattr(Callback, name), name
            setattr(self, name, _strict(function))


def _strict(function: Callable[..., object]) -> Callable[..., None]:
    def call(*given: Any) -> None:
        try:
            function(*given)
        except Exception as error:
            raise Fault(repr(error)) from error

    return call


def noting(notes: list[str]) -> Hearing:
    """Collects the notes."""
    return Hearing(on_note=lambda study, text: notes.append(text))


def after_trials(look: Callable[[Any], object]) -> Hearing:
    """Calls a function with each trial that has ended."""
    return Hearing(on_trial_end=lambda study, trial: look(trial))
