"""A function in a child process of its own: time-out, kill, crash, NaN and out of memory come back as `Failure`.

The child comes from a fork server that has torch and ultralytics loaded already, so that a trial pays neither the
import nor the memory that earlier `train()` calls leaked. It leads its own process group: killing the group also ends
data-loader workers. When the coordinator dies, whatever killed it, the child notices and ends its group.
"""

from __future__ import annotations

import errno
import faulthandler
import multiprocessing
import os
import pickle
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import util
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from objectives.held_folder import PREFIX, make_held_folder, release, remove_abandoned
from search.config.inputs.user_modules import declare, declared
from search.errors import TrialFailed
from search.trial import Failure, FailureKind
from search.workers.import_path import as_given, without_working_folder

PRELOAD = ("search.workers.preload",)
_SOCKETS = "processes"
"""Kind of the temporary folder in which processes meet."""
_MOST_SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
"""Of a socket's path: what fits into `sun_path` beside its last zero."""
_SHORT = Path("/tmp")
_JOIN_S = 10.0
_DUMP_S = 2.0
_STACKS = signal.SIGUSR1
"""What makes a child write its stacks into its log."""
_MAIN = b"\x8c\x08__main__"
"""How a pickle names the module of a class or function of the user's script."""
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
_NO_ROOM = re.compile(r"no space left on device|disk quota exceeded|database or disk is full", re.IGNORECASE)
_MEMORY = re.compile(r"out of memory|can't allocate memory|cannot allocate memory|bad_alloc", re.IGNORECASE)
_SHARED_MEMORY = re.compile(r"shared memory|\bshm\b|bus error", re.IGNORECASE)
_ENLARGE = "often no room in /dev/shm, where processes that load images meet: enlarge it, or fewer search.workers"
_NOT_FINITE = re.compile(r"\bnan\b|\binf\b|not finite|must be finite|infinite", re.IGNORECASE)


def _socket_parent() -> Path | None:
    """Return the folder for the folder of sockets: None, the temporary one, unless its path is too long for sockets."""
    longest = len(os.fsencode(tempfile.gettempdir())) + len(f"/{PREFIX}{_SOCKETS}-12345678/listener-12345678")
    return _SHORT if longest > _MOST_SOCKET_BYTES else None


def _own_temporary_folder() -> None:
    """Give multiprocessing a folder for its sockets that is removed after this process was killed.

    By default it makes a `pymp-...` of its own, which nobody can tell from that of a living process.
    """
    config: dict[str, Any] = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    if config.get("tempdir") is None:
        remove_abandoned()
        parent = _socket_parent()
        if parent is not None:
            remove_abandoned(parent)
        folder = make_held_folder(_SOCKETS, parent)
        config["tempdir"] = str(folder)
        # after the processes that use it, as multiprocessing does with its own
        util.Finalize(None, _leave, args=(config, folder), exitpriority=-100)


def _leave(config: dict[str, Any], folder: Path) -> None:
    release(folder)
    config["tempdir"] = None


class Child:
    """One call of `function(*arguments)` in a process of its own.

    Both must be picklable and importable by name; a function of the user's `__main__` is imported again there, which
    needs the usual `if __name__ == "__main__"` guard.

    Args:
        log: file that receives what the child prints; the terminal stays quiet.
        error_path: file that receives the traceback of an exception.
        preload: modules that the fork server imports; the first child of the process decides.
    """

    def __init__(
        self,
        function: Callable[..., object],
        arguments: Sequence[object],
        *,
        log: Path,
        error_path: Path,
        preload: Sequence[str] = PRELOAD,
    ) -> None:
        _own_temporary_folder()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(preload))
        self._connection, theirs = context.Pipe(duplex=False)
        self._log = log
        call = pickle.dumps((function, tuple(arguments)))
        # Asked through NVML, "is there a GPU" does not start CUDA, which a forked child could not start again.
        os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
        with _interrupt_blocked(), _main_hidden(_MAIN not in call), without_working_folder() as given:
            self._process = context.Process(target=_main, args=(theirs, call, declared(), given, log, error_path))
            self._process.start()
        theirs.close()
        self._killed = False

    @property
    def waitables(self) -> tuple[Connection, int]:
        """Connection and sentinel for `multiprocessing.connection.wait`; one is ready at an answer or exit."""
        return self._connection, self._process.sentinel

    def result(self) -> tuple[bool, Any] | None:
        """Return None while it runs; (True, returned value) or (False, Failure) when it has ended."""
        # Asked in this order: a child that ended has answered before. Its data-loader workers may keep the pipe open.
        ended = self._process.exitcode is not None
        if not self._connection.poll():
            if not ended:
                return None
            answer: tuple[bool, Any] = (False, self._crash())
            self.kill()
            return answer
        try:
            answer = self._connection.recv()
        except (EOFError, OSError):
            answer = (False, self._crash())
        except Exception as error:
            answer = (False, Failure(FailureKind.ERROR, f"the answer cannot be read: {error}"))
        self.kill()
        return answer

    @property
    def is_stopped(self) -> bool:
        """True if a signal has stopped the child (SIGSTOP, a debugger); False where there is no /proc to ask."""
        try:
            said = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        return said.rpartition(")")[2].split()[0] in ("T", "t")

    def dump_stacks(self) -> None:
        """Dump the stacks of the child's threads into its log; waits a moment for it."""
        before, end = _size(self._log), time.monotonic() + _DUMP_S
        if self._process.pid is None or _STACKS not in _handled(self._process.pid):
            return  # it has not come to its first lines: the signal would end it
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, _STACKS)
        while _size(self._log) == before and time.monotonic() < end:
            time.sleep(0.01)

    def kill(self) -> None:
        """Kill the child and its process group. Idempotent."""
        if self._killed:
            return
        self._killed = True
        _kill_group(self._process.pid)
        self._process.join(_JOIN_S)
        self._connection.close()

    def _crash(self) -> Failure:
        self._process.join(_JOIN_S)
        code = self._process.exitcode
        if code is not None and code < 0:
            ended_by = signal.Signals(-code)
            hints = {signal.SIGKILL: "; often the kernel, out of memory", signal.SIGBUS: f"; {_ENLARGE}"}
            hint = hints.get(ended_by, "")
            return Failure(FailureKind.SIGNAL, f"the trial's process was ended by {ended_by.name}{hint}")
        return Failure(FailureKind.CRASH, f"the trial's process ended with exit code {code} and without a result")


def classify(error: BaseException) -> Failure:
    """Return the failure kind of an exception; the message is its first line, with its type."""
    text = f"{type(error).__name__}: {error}".strip().splitlines()[0][:400]
    if isinstance(error, TrialFailed):
        return Failure(FailureKind(error.kind), error.what)
    if _SHARED_MEMORY.search(str(error)):
        return Failure(FailureKind.OUT_OF_MEMORY, f"{text}; {_ENLARGE}")
    if (isinstance(error, OSError) and error.errno in _DISK) or _NO_ROOM.search(str(error)):
        return Failure(FailureKind.DISK, text)
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or _MEMORY.search(str(error)):
        return Failure(FailureKind.OUT_OF_MEMORY, text)
    if type(error).__name__ == "DivergedError" or _NOT_FINITE.search(str(error)):
        return Failure(FailureKind.NOT_FINITE, text)
    return Failure(FailureKind.ERROR, text)


def _main(
    connection: Connection, call: bytes, modules: tuple[str, ...], safe_path: str | None, log: Path, error_path: Path
) -> None:
    os.setsid()
    as_given(safe_path)
    _end_with_parent()
    _redirect(log)
    for file in modules:
        declare(file)
    try:
        function, arguments = pickle.loads(call)
        answer: tuple[bool, object] = (True, function(*arguments))
    except BaseException as error:
        answer = (False, classify(error))
        with suppress(OSError):  # a full disk; the failure itself goes through the pipe
            error_path.write_text(traceback.format_exc(), encoding="utf-8")
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    connection.send(answer)
    connection.close()


def _end_with_parent() -> None:
    """Exit when the coordinator dies, since an orphaned training would write into a resumed run."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        _kill_group(os.getpid())

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()


def _redirect(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    faulthandler.enable(sys.stderr)
    faulthandler.register(_STACKS, sys.stderr, all_threads=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _handled(pid: int) -> set[int]:
    """Return the signals that a process handles; all of them if /proc is unavailable."""
    try:
        said = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return set(range(1, 65))
    mask = int(next(line for line in said.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def _kill_group(pid: int | None) -> None:
    if pid is None:
        return
    for kill in (os.killpg, os.kill):  # the group exists only after the child's first lines
        with suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


@contextmanager
def _interrupt_blocked() -> Iterator[None]:
    """Block Ctrl-C and SIGHUP for a fork server started inside and its children; the coordinator handles them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _main_hidden(hide: bool) -> Iterator[None]:
    """Hide `__main__`, which multiprocessing would import again in every child, running scripts without a main guard.

    Nothing of ours lives in `__main__`, so an empty module replaces it while the child is described.
    """
    if not hide:
        yield
        return
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
