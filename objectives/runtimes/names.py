"""The names of what can time a model; imports none of it."""

from __future__ import annotations

import difflib
import shlex
from typing import Literal, get_args

from objectives.errors import LatencyError

Runtime = Literal["onnxruntime", "torch", "openvino", "tensorrt"]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
"""Those that run in this process."""
COMMAND = "command:"
"""What a runtime begins with that is a user's program (`command_runner`)."""


def is_command(runtime: str) -> bool:
    """Whether the runtime is a user's program."""
    return runtime.startswith(COMMAND)


def check_runtime(runtime: str) -> str:
    """The runtime as it is, if there is such a one. Raises `LatencyError` with the near miss."""
    if is_command(runtime):
        command_words(runtime)
    elif runtime not in RUNTIMES:
        near = difflib.get_close_matches(runtime, [*RUNTIMES, COMMAND], n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}? " if near else ""
        known = ", ".join([*RUNTIMES, f"{COMMAND}PROGRAM"])
        raise LatencyError(f"Unknown runtime {runtime!r}. {hint}Expected one of: {known}.")
    return runtime


def command_words(runtime: str) -> list[str]:
    """The words of `command:...`. Raises `LatencyError` where there is none, or a quote is not closed."""
    try:
        words = shlex.split(runtime.removeprefix(COMMAND))
    except ValueError as fault:
        raise LatencyError(f"{runtime!r} cannot be split into words: {fault}. Quote as in a shell.") from fault
    if not words:
        raise LatencyError(f"{runtime!r} names no program. Example: command:./time_on_board.sh {{model}}")
    return words
