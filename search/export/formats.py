"""What is asked to be exported: formats and precisions, and whether this machine has what they need."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from objectives.errors import BackendMissing
from objectives.runtimes.names import pip_name
from search.errors import ConfigError, DeviceMissing, near_miss
from search.export.format_table import CHECKED, FORMATS, NOT_ON_PYPI, PASSED_ON, PIP, Format
from search.export.graph_options import PLAIN, GraphOptions

__all__ = ["BITS", "FORMATS", "PRECISIONS", "Format", "Target", "asked_bits", "asked_formats", "checked_targets"]

PRECISIONS = {8: "int8", 16: "fp16", 32: "fp32"}
BITS = {name: bits for bits, name in PRECISIONS.items()}


@dataclass(frozen=True)
class Target:
    """A requested artefact: a format in a precision."""

    form: Format
    bits: int
    graph: GraphOptions = PLAIN

    @property
    def precision(self) -> str:
        """fp32, fp16 or int8."""
        return PRECISIONS[self.bits]

    @property
    def label(self) -> str:
        """`onnx int8`, or `onnx fp32 nms`."""
        return f"{self.form.name} {self.precision} {self.graph.label}".rstrip()

    def file_name(self, stem: str) -> str:
        """Return model.onnx, model_int8.onnx, model_nms.onnx or model_fp16_openvino_model, by content."""
        return f"{stem}{'' if self.bits == 32 else f'_{self.precision}'}{self.graph.suffix}{self.form.suffix}"


def asked_formats(text: str | Sequence[str]) -> tuple[str, ...]:
    """Parse `onnx, openvino` or a list of names."""
    found = text.split(",") if isinstance(text, str) else [str(name) for name in text]
    return tuple(name.strip() for name in found if name.strip())


def asked_bits(quantize: object) -> tuple[int, ...]:
    """Parse 8, `8,32`, [8, 32] or None (32).

    Raises:
        ConfigError: anything but 8, 16 and 32.
    """
    listed = quantize.split(",") if isinstance(quantize, str) else quantize
    found = listed if isinstance(listed, (list, tuple)) else [32 if listed is None else listed]
    known = {str(bits): bits for bits in PRECISIONS}
    for number in found:
        if str(number).strip() not in known:
            raise ConfigError(f"unknown precision {number}", where="quantize", expected="8, 16 or 32")
    return tuple(dict.fromkeys(known[str(number).strip()] for number in found))


def checked_targets(
    formats: Sequence[str],
    quantize: object = None,
    *,
    device: str = "cpu",
    graph: GraphOptions = PLAIN,
) -> tuple[tuple[Target, ...], tuple[str, ...]]:
    """Return (artefacts to make, a sentence for each combination that does not exist), after all checks.

    A format without one of the requested precisions is left out in that one if it has another.

    Args:
        graph: what the graphs take and give.

    Raises:
        ConfigError: no format, an unknown one, or one that has none of the precisions, or not these options.
        BackendMissing: packages are not installed; carries one pip line for all.
        DeviceMissing: a format that needs a GPU.
    """
    if not formats:
        raise ConfigError("no format was named", where="format", expected=f"one or more of {', '.join(CHECKED)}")
    known = [(form, _bits(form, quantize)) for form in map(_known, dict.fromkeys(formats))]
    for form, bits in known:
        _check_precisions(form, bits)
    targets = tuple(Target(form, one, graph) for form, bits in known for one in bits if one in form.precisions)
    check_graph(targets)
    _check_packages(targets)
    _check_programs(targets)
    _check_device(targets, device)
    return targets, tuple(note for form, bits in known for note in _left_out(form, bits))


def check_graph(targets: Sequence[Target], task: str | None = None) -> None:
    """Check that the formats can have the options of their graphs, of a network of that task if it is known.

    Raises:
        ConfigError: one cannot.
    """
    for target in targets:
        fault = target.graph.fault_of(target.form.name, target.form.takes, target.bits, task)
        if fault is not None:
            able = ", ".join(name for name in CHECKED if FORMATS[name].takes)
            raise ConfigError(fault, where=target.label, expected=f"of those that are checked here: {able}")


def _bits(form: Format, quantize: object) -> tuple[int, ...]:
    """Return the bits that are asked for; where none are, those of a format that has no float32."""
    return asked_bits(next(iter(form.precisions)) if quantize is None and 32 not in form.precisions else quantize)


def _left_out(form: Format, bits: Sequence[int]) -> Iterator[str]:
    for one in bits:
        if one not in form.precisions:
            yield f"{form.name} has no {PRECISIONS[one]}; it was left out"


def _known(name: str) -> Format:
    if name not in FORMATS:
        raise ConfigError(
            f"{name!r} is no export format",
            where="format",
            expected=f"one of {', '.join(CHECKED)}; or, not checked here, {', '.join(PASSED_ON)}",
            near=near_miss(name, FORMATS),
        )
    return FORMATS[name]


def _check_precisions(form: Format, bits: Sequence[int]) -> None:
    if not any(one in form.precisions for one in bits):
        asked = " or ".join(PRECISIONS[one] for one in bits)
        has = ", ".join(map(str, form.precisions))
        raise ConfigError(
            f"{form.name} is not exported as {asked} here", where="quantize", expected=f"quantize={has}, or format=onnx"
        )


def _check_packages(targets: Sequence[Target]) -> None:
    wanted: dict[str, str] = {}
    for target in targets:
        for package in (*target.form.packages, *target.form.precisions[target.bits], *_more(target)):
            wanted.setdefault(package, target.label)
    missing = [package for package in wanted if importlib.util.find_spec(package) is None]
    if missing:
        needed = ", ".join(dict.fromkeys(wanted[package] for package in missing))
        vendors = dict.fromkeys(target.form.vendor for target in targets if target.form.vendor)
        words = [PIP.get(package, pip_name(package)) for package in missing if package not in NOT_ON_PYPI]
        lines = [f"pip install {' '.join(words)}"] if words else []
        raise BackendMissing(
            " and ".join(missing), needed_for=f"exporting {needed}", install="; ".join([*lines, *vendors])
        )


def _check_programs(targets: Sequence[Target]) -> None:
    """Refuse where a program is missing that Ultralytics would fetch or install by itself."""
    for target in targets:
        missing = [program for program in target.form.programs if shutil.which(program) is None]
        if missing:
            where = f"its vendor's packages; https://docs.ultralytics.com/modes/export tells more of {target.form.name}"
            raise BackendMissing(" and ".join(missing), needed_for=f"exporting {target.label}", install=where)


def _more(target: Target) -> tuple[str, ...]:
    """Return ModelOpt, which TensorRT needs since version 11 to mark reduced precision in the graph."""
    if target.form.name != "engine" or target.bits == 32 or importlib.util.find_spec("tensorrt") is None:
        return ()
    return ("modelopt",) if int(version("tensorrt").partition(".")[0]) >= 11 else ()


def _check_device(targets: Sequence[Target], device: str) -> None:
    needs = [target.form.name for target in targets if target.form.gpu]
    if needs and device == "cpu":
        raise DeviceMissing(f"format={needs[0]} is made on a GPU", where="device", expected="device=0")
