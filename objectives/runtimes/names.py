"""Names of the supported runtimes; imports none of them."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import Literal, get_args

from objectives.errors import BackendMissing, LatencyError

Runtime = Literal["onnxruntime", "torch", "openvino", "tensorrt", "torchscript", "ncnn", "mnn", "litert", "executorch"]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
"""Those that run in this process."""
SUFFIXES: Mapping[str, str] = MappingProxyType(
    {
        "torchscript": ".torchscript",
        "ncnn": "_ncnn_model",
        "mnn": ".mnn",
        "litert": ".tflite",
        "executorch": "_executorch_model",
    }
)
"""Runtime -> how the name of its own file (or folder) ends, as Ultralytics names it; the others read ONNX."""
_MODULES: Mapping[str, str] = MappingProxyType({"torchscript": "torch", "mnn": "MNN", "litert": "ai_edge_litert"})
"""Runtime -> what Python imports, where the names differ."""
_CONVERTERS: Mapping[str, str] = MappingProxyType({"ncnn": "pnnx", "litert": "litert_torch"})
"""Runtime -> what makes its files of a module, where the runtime itself cannot."""
_PIP: Mapping[str, str] = MappingProxyType(
    {
        "ai_edge_litert": "ai-edge-litert",
        "litert_torch": "litert-torch",
        "ai_edge_quantizer": "ai-edge-quantizer",
        "pnnx": "pnnx==20260526",
        "modelopt": '"nvidia-modelopt[onnx]"',
    }
)
"""Module -> what pip calls it, where the names differ; pnnx as Ultralytics 8.4.190 pins it."""
COMMAND = "command:"
"""What a runtime begins with that is a user's program (`command_runner`)."""


def file_suffix(runtime: str) -> str:
    """Return how the name of a file for the runtime ends: `.onnx` for those that read ONNX, and for a `command:`."""
    return SUFFIXES.get(runtime, ".onnx")


def file_names(stem: str) -> tuple[str, ...]:
    """Return `stem` with the suffix of every runtime."""
    return tuple(f"{stem}{suffix}" for suffix in (".onnx", *SUFFIXES.values()))


def module_of(runtime: str) -> str:
    """Return the module that is imported for a runtime."""
    return _MODULES.get(runtime, runtime)


def distribution_of(runtime: str) -> str:
    """Return the name of the package whose version is that of the runtime."""
    return pip_name(module_of(runtime)).partition("==")[0]


def pip_name(module: str) -> str:
    """Return the word by which pip installs a module."""
    return _PIP.get(module, module)


def check_packages(runtime: str, *, converts: bool = False) -> None:
    """Check, importing nothing, that the packages of a runtime are installed.

    Args:
        converts: also what makes its file of a module.

    Raises:
        BackendMissing: with one pip line for all.
    """
    needed = [module_of(runtime)]
    if converts and runtime in _CONVERTERS:
        needed.append(_CONVERTERS[runtime])
    check_modules(needed, f"runtime={runtime}")


def check_modules(modules: Iterable[str], needed_for: str) -> None:
    """Raise BackendMissing, with one pip line, unless all modules can be found."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        names = [pip_name(name) for name in missing]
        raise BackendMissing(" and ".join(missing), needed_for=needed_for, install=f"pip install {' '.join(names)}")


def is_command(runtime: str) -> bool:
    """Return whether the runtime is an external program."""
    return runtime.startswith(COMMAND)


def check_runtime(runtime: str) -> str:
    """Return the runtime unchanged if it is supported. Raises `LatencyError` with the nearest name."""
    if is_command(runtime):
        command_words(runtime)
    elif runtime not in RUNTIMES:
        begun = [name for name in RUNTIMES if runtime and name.startswith(runtime)]
        near = begun or difflib.get_close_matches(runtime, [*RUNTIMES, COMMAND], n=1, cutoff=0.5)
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
