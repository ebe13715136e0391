"""A study with `target: imx500`: the keys that the pack sets, below those that the study has itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from objectives.runtimes.names import is_command, module_of
from search.config.inputs.paths import with_program
from search.config.precision_support import FILES, precision_fault
from search.config.sections import LatencySpec, SpaceSpec
from search.config.targets.limits import FIGURE, Family, largest_size
from search.config.targets.pack import NAMES, Pack, PackLatency, PackSpace, read_pack, target_fault
from search.config.targets.record import TargetRecord, shown
from search.errors import ConfigError

BOARD = Path("/proc/device-tree/model")
"""Where a board says what it is."""
KEY = "target"
Networks = Callable[[], Iterable[tuple[str, Family, str | None]]]
"""Name, family and task of every base, as its checkpoint says; a task is None where nothing says it."""


def with_target(study: Mapping[str, Any], words: Mapping[str, Any], networks: Networks, size: int) -> dict[str, Any]:
    """Return an unchecked study with the keys of its target's pack, and what was set as a record under `target`.

    A key that the study has, in its file or as a word of the command line, takes precedence. Where a word names the
    target, keys of the file that stand at their defaults, as `init` writes them, give way. A move that the pack forbids
    is an error where it is asked for beside the target, and off in a file whose target is a word. What is no target is
    left to the study's checks.

    Args:
        study: file and words, merged.
        words: those of the command line.
        networks: of the bases; empty where the checkpoints are not read.
        size: the input size of a study that names none, in px.

    Raises:
        ConfigError: a fault of the pack, a forbidden move, or a network that the device does not take.
    """
    asked = study.get(KEY)
    if not isinstance(asked, str) or target_fault(asked) is not None:
        return dict(study)
    pack, name = read_pack(asked), _name(asked)
    found: dict[str, Any] = {**study, "space": _section(study, "space"), "latency": _section(study, "latency")}
    if KEY in words:
        _drop_defaults(found, words)
    keys = _keys(pack, found, Path(asked).parent)
    ceiling = _ceiling(pack, name, networks(), study, size)
    if ceiling is not None:
        found["constraints"] = _section(study, "constraints")
        keys[f"constraints.{FIGURE}"] = f"<={ceiling:.5f}"
    sets, kept = _set_below(found, keys)
    _check_precision(name, found, sets)
    forbidden = {f"space.{move}": reason for move, reason in pack.forbid.items()}
    for move, reason in pack.forbid.items():
        _turn_off(found, move, name, words, reason)
    found[KEY] = TargetRecord(
        name=name,
        device=pack.device,
        title=pack.title,
        weights_mb=pack.weights_mb,
        networks=pack.networks,
        sets=sets,
        kept=kept,
        forbidden=forbidden,
        measured=measured_instead(pack, found),
        export=pack.export,
        notes=pack.notes,
        sources=pack.sources,
    )
    return found


def words_of_run(run: Mapping[str, Any], words: Mapping[str, Any]) -> dict[str, Any]:
    """Return the words with which a run goes on, without a target, which it keeps as it recorded it.

    Raises:
        ConfigError: they name another one.
    """
    recorded = run.get(KEY)
    before = recorded.get("name") if isinstance(recorded, Mapping) else None
    if KEY in words and words[KEY] not in (before, recorded) and _name(words[KEY]) != before:
        raise ConfigError(
            f"the run was begun {f'for {before}' if before else 'without a target'}, which it keeps",
            where=f"{KEY}={words[KEY]}",
            expected=f"{KEY}={before}, or no {KEY} at all" if before else f"no {KEY}",
            next_command=f"start a new run: paretoprune search study.yaml {KEY}={words[KEY]} name=NEW_NAME",
        )
    return {key: value for key, value in words.items() if key != KEY}


def _name(asked: object) -> str:
    return str(asked) if asked in NAMES else Path(str(asked)).stem


def _section(study: Mapping[str, Any], name: str) -> Any:
    """Return a copy of a section; what is no mapping unchanged, for the study's checks."""
    found = study.get(name)
    return dict(found) if isinstance(found, Mapping) else {} if found is None else found


def _drop_defaults(study: Mapping[str, Any], words: Mapping[str, Any]) -> None:
    """Drop what the file has of the keys of packs where that is the default anyway, and no word says it."""
    for section, model, kind in (("latency", LatencySpec, PackLatency), ("space", SpaceSpec, PackSpace)):
        part = study[section]
        if not isinstance(part, dict) or section in words:
            continue
        for key in kind.model_fields:
            usual = model.model_fields[key].default
            is_usual = part.get(key) in (usual, list(usual) if isinstance(usual, tuple) else usual)
            if is_usual and f"{section}.{key}" not in words:
                part.pop(key, None)


def _keys(pack: Pack, study: Mapping[str, Any], place: Path) -> dict[str, Any]:
    """Return what the pack sets here: `instead` where its runtime is missing, and a device only beside its runtime."""
    keys, own = with_program(pack.study.keys(), "latency.runtime", place), study["latency"]
    runtime = pack.study.latency.runtime
    if pack.instead.runtime is not None and (runtime is None or not is_installed(runtime)):
        keys = {key: value for key, value in keys.items() if key not in ("latency.runtime", "latency.device")}
        said = pack.instead.model_dump(mode="json")
        keys |= {f"latency.{key}": value for key, value in said.items() if value is not None}
    if isinstance(own, Mapping) and own.get("runtime") not in (None, keys.get("latency.runtime")):
        keys.pop("latency.device", None)
    return keys


def is_installed(runtime: str) -> bool:
    """Return whether the module of a runtime can be found; a command is looked for by the study's checks."""
    return is_command(runtime) or find_spec(module_of(runtime)) is not None


def _set_below(study: dict[str, Any], keys: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Set the keys that the study does not have; return them, and those that it has with other values."""
    sets: dict[str, Any] = {}
    kept: dict[str, Any] = {}
    for dotted, value in keys.items():
        section, key = dotted.split(".")
        part = study[section]
        if not isinstance(part, dict):
            continue
        if part.get(key) is None:
            part[key] = sets[dotted] = value
        elif part[key] not in (value, [value]) and [part[key]] != value:
            kept[dotted] = value
    return sets, kept


def _check_precision(name: str, study: Mapping[str, Any], sets: Mapping[str, Any]) -> None:
    """Raise ConfigError where the study's own runtime cannot run the precision that the pack sets."""
    latency = study["latency"]
    if "space.precision" not in sets or "latency.runtime" in sets or not isinstance(latency, Mapping):
        return
    runtime, device = (str(latency.get(key) or LatencySpec.model_fields[key].default) for key in ("runtime", "device"))
    if runtime not in FILES or (fault := precision_fault(sets["space.precision"], runtime, device)) is None:
        return
    raise ConfigError(
        f"target {name} sets space.precision: {shown(sets['space.precision'])}, and {fault}",
        where="latency.runtime",
        expected="the runtime of the target, or a space.precision of the study's own",
    )


def _turn_off(study: dict[str, Any], move: str, name: str, words: Mapping[str, Any], reason: str) -> None:
    """Switch a forbidden move off. Raises ConfigError where it is asked for as near as the target is."""
    space = study["space"]
    if not isinstance(space, dict) or not space.get(move):
        return
    if KEY not in words or f"space.{move}" in words or "space" in words:
        raise ConfigError(
            f"target {name} forbids space.{move}: {reason}",
            where=f"space.{move}",
            expected="false, or a target of your own that allows it (target: mine.yaml, docs/targets.md)",
        )
    space[move] = False


def _ceiling(
    pack: Pack, name: str, networks: Iterable[tuple[str, Family, str | None]], study: Mapping[str, Any], size: int
) -> float | None:
    """Return the lowest ceiling of the kernels of any base, 10^6 bytes; None if there is none."""
    found = []
    for base, family, task in networks:
        limits = None if task is None and pack.networks else pack.network(family, task or "")
        if task is not None and limits is None:
            what = f"target {name} takes {', '.join(pack.tasks)}; {base} is a model of task {task}"
            raise ConfigError(what, where=KEY, expected="such a model, or another target")
        left = None if limits is None else limits.kernels_mb(largest_size(study, size))
        found += [] if left is None else [left]
    return min(found, default=None)


def measured_instead(pack: Pack, study: Mapping[str, Any], board: Path = BOARD) -> tuple[str, ...]:
    """Return what is measured in the place of the device, and how its own figures are had; empty where it is measured.

    Args:
        board: the file by which this machine says what board it is.
    """
    latency, space = study["latency"], study["space"]
    if not isinstance(latency, Mapping) or not isinstance(space, Mapping):
        return ()
    runtime = str(latency.get("runtime") or LatencySpec().runtime)
    said = space.get("precision") or SpaceSpec().precision
    precisions = said if isinstance(said, list | tuple) else [said]
    reduced = [str(one) for one in precisions if one != "fp32"]
    own, found = pack.study.latency.runtime, []
    if not is_command(runtime):
        found += _latency_said(pack, runtime, own, board)
    if own is None and reduced:
        of = "an ONNX file" if is_command(runtime) else f"{runtime}'s file"
        found.append(
            f"accuracy in {' and '.join(reduced)} is that of {of} quantised here: the compiler of the "
            f"{pack.device} quantises in its own way"
        )
    return tuple(found)


def _latency_said(pack: Pack, runtime: str, own: str | None, board: Path) -> list[str]:
    if own is None:
        why = f"no runtime for the {pack.device} runs here"
    elif runtime != own:
        missing = "" if is_installed(own) else ", which is not installed here"
        why = f"the {pack.device} runs {own}{missing}"
    elif pack.boards and not _is_board(pack.boards, board):
        why = f"it is no {pack.device}"
    else:
        return []
    return [f"latency is that of {runtime} on this machine, a stand-in: {why}. Its own: {pack.measure}"]


def _is_board(names: Iterable[str], board: Path) -> bool:
    if not board.is_file():
        return False
    said = board.read_bytes().decode(errors="replace")
    return any(name in said for name in names)
