"""A user's own program as a runtime: `command:./time_on_board.sh {model}`.

The protocol. The program is called once per block, without a shell, with the path of the exported file: in the place
of `{model}`, else as its last word; `{imgsz}` (640, or 384x640), `{height}`, `{width}`, `{batch}` and
`{threads}` are filled in too. It does its own warm-up,
ends with exit code 0 and prints milliseconds per inference (of the whole batch) to its standard output: one number a
line, or JSON (`{"latency_ms": [5.1, 5.2]}`, a list, or one number), alone or as the last line. What it has to say
goes to its standard error. Calls for the base and for the candidate alternate, so drift of the board cancels.

A JSON object may have further numbers beside `latency_ms`, of that call: `e2e_ms`, `memory_mb`, `energy_mj`, or figures
of the user's own. They are kept as `readings`; `resources.command_figures` makes estimates of them.
"""

from __future__ import annotations

import json
import math
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from objectives.errors import CommandFailed, ProgramMissing
from objectives.image_size import Size, sides, written
from objectives.runtimes.names import command_words
from objectives.runtimes.runner import Conditions, Floats

TIMEOUT_S = 300.0
"""A call that takes longer has failed."""
MOST_OUTPUT = 1 << 20
"""Bytes that are read of what a program prints."""
_TAIL_LINES = 5


@dataclass(frozen=True)
class Reading:
    """What one call of a program said.

    Attributes:
        at: seconds of a clock that all readings of this process share.
        figures: the numbers beside the milliseconds.
    """

    milliseconds: tuple[float, ...]
    figures: Mapping[str, float] = field(default_factory=dict)
    at: float = 0.0


class CommandRunner:
    """An exported file, timed by an external program with its own clock.

    Attributes:
        readings: what each call said, in their order.
    """

    def __init__(
        self,
        path: Path,
        *,
        runtime: str,
        imgsz: Size,
        threads: int,
        batch: int,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._runtime, self._timeout_s = runtime, timeout_s
        self._facts: dict[str, str | int] = {"imgsz": written(imgsz), "batch": batch, "threads": threads}
        height, width = sides(imgsz)
        self._words = _filled(
            command_words(runtime), {"model": path.resolve(), "height": height, "width": width, **self._facts}
        )
        check_program(self._words[0], runtime)
        self.readings: list[Reading] = []

    def run(self) -> None:
        self.times_s()

    def times_s(self) -> Floats:
        """Call the program once and return its seconds. Raises `CommandFailed` with its last lines."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                code = _call(self._words, out, err, self._timeout_s)
            except OSError as fault:
                raise CommandFailed("start", f"{self._words[0]} cannot be started: {fault}") from fault
            said, complained = _text(out), _text(err)
        if code is None:
            raise self._failed("timeout", f"did not end within {self._timeout_s:g} s", said, complained)
        if code != 0:
            raise self._failed("exit", f"ended with exit code {code}", said, complained)
        try:
            reading = reading_of(said, time.monotonic())
        except ValueError as fault:
            raise self._failed("output", str(fault), said, complained) from fault
        self.readings.append(reading)
        return np.array(reading.milliseconds) / 1e3

    def describe(self) -> Conditions:
        return {"runtime": self._runtime, "version": "", "device": "", **self._facts, "precision": "as exported"}

    def _failed(self, reason: str, what: str, said: str, complained: str) -> CommandFailed:
        tail = [line for line in [*said.splitlines(), *complained.splitlines()] if line.strip()][-_TAIL_LINES:]
        quoted = "".join(f"\n  | {line[:200]}" for line in tail) or "\n  | (it printed nothing)"
        return CommandFailed(reason, f"{shlex.join(self._words)} {what}. Its last lines:{quoted}", tuple(tail))


def check_program(program: str, runtime: str) -> None:
    """Raise `ProgramMissing` unless the program exists and may be executed."""
    if shutil.which(program) is None:
        raise ProgramMissing(program, runtime)


def reading_of(printed: str, at: float = 0.0) -> Reading:
    """Parse what a program printed. Raises ValueError naming what was expected and found."""
    text = printed.strip()
    found = _json_of(text)
    if found is None:
        found = _json_of(text.rpartition("\n")[2])
    further: dict[str, float] = {}
    if isinstance(found, dict):
        further = {str(name): float(value) for name, value in found.items() if _is_number(value)}
        further.pop("latency_ms", None)
        found = found.get("latency_ms")
    values: Sequence[Any] = found if isinstance(found, list) else [found] if found is not None else text.splitlines()
    times = tuple(_positive(value) for value in values if str(value).strip())
    if not times:
        raise ValueError('printed no number; expected milliseconds, one a line, or JSON with "latency_ms"')
    return Reading(times, further, at)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _json_of(text: str) -> Any:
    """Parse a JSON object or list; None for everything else, including single numbers, which are lines."""
    if not text.startswith(("{", "[")):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if isinstance(found, dict) and "latency_ms" not in found:
        raise ValueError(f'printed JSON without "latency_ms", with: {", ".join(map(str, found)) or "nothing"}')
    return found


def _positive(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        raise ValueError(f"printed {str(value)[:80]!r}; expected milliseconds, one number a line") from None
    if not 0 < number < math.inf:
        raise ValueError(f"printed {value}; expected a finite number of milliseconds above 0")
    return number


def _filled(words: list[str], facts: dict[str, Any]) -> list[str]:
    named = any("{model}" in word for word in words)
    for name, value in facts.items():
        words = [word.replace(f"{{{name}}}", str(value)) for word in words]
    return words if named else [*words, str(facts["model"])]


def _call(words: Sequence[str], out: Any, err: Any, timeout_s: float) -> int | None:
    """Run the program; return its exit code, or None at the time-out.

    Output goes to files, not pipes: a grandchild that outlives its parent would hold a pipe open. The program stays in
    this process's group, so that killing a trial's group ends it too.
    """
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.returncode is None:
            _kill_tree(process)


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill the program and its children: an ssh behind a script would keep the board busy."""
    try:
        below = psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        below = []
    for one in [process, *below]:
        try:
            one.kill()
        except (psutil.Error, ProcessLookupError):
            continue
    process.wait()


def _text(file: Any) -> str:
    """Return the end of the output; bytes that are not UTF-8 are escaped."""
    size = file.seek(0, 2)
    file.seek(max(0, size - MOST_OUTPUT))
    content: bytes = file.read()
    return content.decode("utf-8", errors="replace")
