"""Names of the supported runtimes; imports none of them."""

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
    """Return whether the runtime is an external program."""
    return runtime.startswith(COMMAND)


def check_runtime(runtime: str) -> str:
    """Return the runtime unchanged if it is supported. Raises `LatencyError` with the nearest name."""
    if is_command(runtime):
        command_words(runtime)
    elif runtime not in RUNTIMES:
        near = difflib.get_close_matches(runtime, [*RUNTIMES, COMMAND], n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}? " if near else ""
        known = ", ".join([*RUNTIMES, f"{COMMAND}PROGRAM"])
        raise LatencyError(f"Unknown runtime {runtime!r}. {hint}Expected one of: {known}.")
    return runtime


def command_words(runtime: str) -> list[str]:
    """Split the words of `command:...`. Raises `LatencyError` if there are none, or a quote is not closed."""
    try:
        words = shlex.split(runtime.removeprefix(COMMAND))
    except ValueError as fault:
        raise LatencyError(f"{runtime!r} cannot be split into words: {fault}. Quote as in a shell.") from fault
    if not words:
        raise LatencyError(f"{runtime!r} names no program. Example: command:./time_on_board.sh {{model}}")
    return words
