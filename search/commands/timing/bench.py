"""`paretoprune bench`: time models on a runtime, interleaved with the first one as reference."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from objectives.held_folder import held_folder
from objectives.image_size import Size, sides, written
from objectives.latency.protocol import Latency
from objectives.objective import Estimate
from objectives.runtimes.names import file_suffix, is_command
from objectives.runtimes.runner import Runner
from search.commands.timing.models import Model, models_of, runtime_for, split_words
from search.config.sections import STRIDE, LatencySpec, image_size
from search.deliver.picked_trial import PickedTrial
from search.errors import ConfigError, near_miss
from search.evaluate.timing.latency import export_timed, lock_path, measure, open_timed
from search.evaluate.timing.latency_cache import LatencyCache, conditions, timing_key, widths_digest
from search.evaluate.timing.measurement_lock import MeasurementLock
from search.prepare.preflight import check_runtime
from search.study import Study

KEYS = (*(name for name in LatencySpec.model_fields if name not in ("conf", "iou")), "imgsz")
"""Without those that are for post-processing, of which `bench` has none."""
AT_ONCE = 4
"""Candidates that share the reference's blocks: each is open several times, and memory is not for ever."""

Say = Callable[[str, float | None], None]
"""What is being done, and the seconds that it takes at most, where known."""


@dataclass(frozen=True)
class Order:
    """Models to time, and the settings; `spec.runtime` is that of the first model."""

    models: tuple[Model, ...]
    spec: LatencySpec

    def spec_of(self, model: Model) -> LatencySpec:
        """Return the settings of one model, with its own runtime."""
        return self.spec.model_copy(update={"runtime": model.runtime or self.spec.runtime})

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Each runtime once."""
        return tuple(dict.fromkeys(self.spec_of(model).runtime for model in self.models))


@dataclass(frozen=True)
class Timed:
    """One model's latency relative to the first.

    Attributes:
        ratio: its time over the first model's; exactly 1 for the first itself.
        latency_ms: ratio times the median inference of the first model, in milliseconds.
        cached: the run had measured these widths before.
    """

    model: Model
    ratio: Estimate
    latency_ms: Estimate
    p50_ms: float
    p90_ms: float
    rounds: int
    flags: tuple[str, ...]
    cached: bool = False


def order_of(words: Sequence[str]) -> Order:
    """Parse the words of `bench`. Settings: those of the first model's run, then the overrides.

    `runtime=a,b` times every model on each of them. Without it a file that only one runtime opens is timed on that
    one, and every other model on the runtime of the first.

    Raises:
        ConfigError: an unknown model, key or value. BackendMissing: the runtime is not installed.
    """
    named, keys = split_words(words)
    _check_keys(keys)
    imgsz = _asked_size(keys.pop("imgsz", None))
    models = tuple(models_of(named, imgsz))
    asked = _asked_runtimes(keys.pop("runtime", None))
    spec = _settings(_given(models[0]), {**keys, **({"runtime": asked[0]} if asked else {})})
    if asked:
        models = tuple(replace(model, runtime=runtime) for model in models for runtime in asked)
    else:
        models = tuple(replace(model, runtime=_own_runtime(model, spec.runtime)) for model in models)
    order = Order(models, spec)
    for runtime in order.runtimes:
        rows = [model for model in models if model.runtime == runtime]
        check_runtime(runtime, converts=not all(model.is_artefact for model in rows))
        for model in rows:
            _check_opens(model, runtime)
    return order


def _asked_size(value: object) -> Size | None:
    try:
        found = None if value is None else image_size(value)
    except ValueError:
        found = 0
    if found is not None and min(sides(found)) < STRIDE:
        expected = "for example 640, or 384,640 (height, width)"
        raise ConfigError(f"{value!r} is not a size in pixels", where="imgsz=", expected=expected)
    return found


def _asked_runtimes(value: object) -> tuple[str, ...]:
    """Parse `ncnn`, `onnxruntime,ncnn` or a list; the words of a `command:` may have commas."""
    if value is None:
        return ()
    text = str(value)
    listed = value if isinstance(value, list) else [text] if is_command(text) else text.split(",")
    names = tuple(dict.fromkeys(str(name).strip() for name in listed))
    for name in names:
        _settings({}, {"runtime": name})
    return names


def _own_runtime(model: Model, first: str) -> str:
    only = runtime_for(model.path)
    if only is None and model.is_artefact and not is_command(first) and file_suffix(first) != ".onnx":
        return "onnxruntime"  # an ONNX file beside one of another format
    return only or first


def _given(first: Model) -> dict[str, Any]:
    given: dict[str, Any] = {} if first.picked is None else first.picked.results.spec.latency.model_dump()
    only = runtime_for(first.path)
    return given if only is None else {**given, "runtime": only}


def _check_keys(keys: Mapping[str, Any]) -> None:
    for key in keys:
        if key not in KEYS:
            raise ConfigError(
                f"unknown key {key!r}", where="command line", expected=", ".join(KEYS), near=near_miss(key, KEYS)
            )


def settings_of(study: Study, keys: Mapping[str, Any]) -> LatencySpec:
    """Return the latency settings of a study, with overrides. Raises ConfigError for an invalid key or value."""
    _check_keys(keys)
    return _settings(study.spec.latency.model_dump(), keys)


def _settings(given: dict[str, Any], keys: Mapping[str, Any]) -> LatencySpec:
    if "runtime" in keys:  # a cap that was chosen for another runtime says nothing
        given = {key: value for key, value in given.items() if key != "seconds"}
    try:
        return LatencySpec.model_validate({**given, **keys})
    except ValidationError as error:
        fault = error.errors()[0]
        raise ConfigError(
            str(fault["msg"]).removeprefix("Value error, "), where=f"{'.'.join(map(str, fault['loc']))}="
        ) from error


def _check_opens(model: Model, runtime: str) -> None:
    only = runtime_for(model.path)
    if only is not None and only != runtime:
        raise ConfigError(
            f"{model.name} is opened by {only} only", where=f"runtime={runtime}", expected=f"runtime={only}"
        )
    if runtime == "torch" and model.is_artefact:
        raise ConfigError(f"torch does not open {model.name}", where="runtime=torch", expected="a .pt file")


def bench(order: Order, say: Say = lambda what, left_s: None) -> tuple[Timed, ...]:
    """Time the models; the first row is the reference. Cached latencies of its run are reused.

    Raises:
        LatencyError: a model cannot be exported, opened or timed.
    """
    known = _known(order)
    first, twins = order.models[0], _twins(order)
    rest = [model for model in order.models[1:] if model not in known and twins[model] is model]
    if not rest and first not in known:  # nothing but the reference itself is left to say how long it takes
        rest = [first]
    fresh = _timed(order, rest, say)
    if first not in known:
        fresh.setdefault(first, _of_reference(fresh[rest[0]]))
    fresh |= {model: fresh[twin] for model, twin in twins.items() if twin in fresh}
    _remember(order, fresh)
    return tuple(_rows(order, known, fresh))


def _of_reference(latency: Latency) -> Latency:
    """Extract the reference's own latency from a comparison."""
    return replace(latency, ratio=Estimate.exact(1.0), p50_ms=latency.reference_ms, p90_ms=latency.reference_p90_ms)


def _timed(order: Order, models: Sequence[Model], say: Say) -> dict[Model, Latency]:
    fresh: dict[Model, Latency] = {}
    if not models:
        return fresh
    groups = [models[at : at + AT_ONCE] for at in range(0, len(models), AT_ONCE)]
    with held_folder("bench") as name, MeasurementLock(lock_path()) as turns:
        reference = _opened(order.models[0], order, name, say)
        for number, group in enumerate(groups):
            sides = [_opened(model, order, name, say) for model in group]
            watch = _watching(say, sides, order.spec, len(groups) - number - 1)
            found = measure(sides, reference, order.spec, turns, watch=watch)
            fresh |= dict(zip(group, found, strict=True))
    return fresh


def _watching(say: Say, sides: Sequence[Any], spec: LatencySpec, groups_left: int) -> Callable[[float], None]:
    whole = spec.seconds * len(sides)

    def watch(share: float) -> None:
        say("timing", whole * (1 - share) + groups_left * spec.seconds * AT_ONCE)

    return watch


def _opened(model: Model, order: Order, folder: Path, say: Say) -> tuple[Runner, ...]:
    spec = order.spec_of(model)
    say(f"opening {model.name}{f' on {spec.runtime}' if len(order.runtimes) > 1 else ''}", None)
    if model.is_artefact and model.path is not None:
        return open_timed(spec, model.path, model.path, model.imgsz)
    module = model.module()
    if spec.runtime == "torch":
        return open_timed(spec, Path(), module, model.imgsz)
    file = export_timed(module, spec, folder / f"{len(list(folder.iterdir()))}", model.imgsz)
    return open_timed(spec, file, module, model.imgsz)


def _known(order: Order) -> dict[Model, Latency]:
    """Return cached latencies of the first model's run, if that model is the base that they refer to."""
    found = {model: timings.find(key) for model, (timings, key) in _keys(order).items()}
    return {model: latency for model, latency in found.items() if latency is not None}


def _keys(order: Order) -> dict[Model, tuple[LatencyCache, dict[str, Any]]]:
    first = order.models[0]
    if not first.is_base or first.run is None or len(order.runtimes) > 1:
        return {}  # what is known are ratios to the base on the same runtime
    timings = LatencyCache(first.run / "latency")
    return {  # the base is timed in float32 here, whatever the study's own precision
        model: (
            timings,
            timing_key(order.spec, digest, model.imgsz, first.imgsz, _precision(model), model.picked.place),
        )
        for model in order.models
        if model.picked is not None and model.run == first.run and (digest := _digest(model.picked)) is not None
    }


def _precision(model: Model) -> str:
    trial = None if model.picked is None else model.picked.trial
    return "fp32" if trial is None else trial.candidate.precision


def _twins(order: Order) -> dict[Model, Model]:
    """Map each model to the first of equal widths: equal networks are timed once."""
    keys = {model: json.dumps(key, sort_keys=True) for model, (_, key) in _keys(order).items()}
    seen: dict[str, Model] = {}
    return {model: seen.setdefault(keys.get(model, f"{at}"), model) for at, model in enumerate(order.models)}


def _digest(picked: PickedTrial) -> str | None:
    """Return `latency_cache.widths_digest` of a run's trial or base."""
    trial, measured = picked.trial, picked.measurement
    return (
        None if measured is None else widths_digest(measured.widths, () if trial is None else trial.candidate.removed)
    )


def _remember(order: Order, fresh: Mapping[Model, Latency]) -> None:
    keys = _keys(order)
    for model in fresh.keys() & keys.keys():
        timings, key = keys[model]
        timings.add(key, fresh[model])


def _rows(order: Order, known: Mapping[Model, Latency], fresh: Mapping[Model, Latency]) -> Iterator[Timed]:
    """Yield the rows; milliseconds are ratios times one measurement of the reference.

    That measurement is the run's own if it has one, so that figures of different days can be compared.
    """
    base = _of_reference(known.get(order.models[0]) or fresh[order.models[0]])
    for model in order.models:
        found = base if model is order.models[0] else fresh.get(model) or known[model]
        scale = base.reference_ms / found.reference_ms
        times = (found.p50_ms * scale, found.p90_ms * scale)
        in_ms = found.in_ms(base.reference_ms)
        yield Timed(model, found.ratio, in_ms, *times, found.rounds, found.flags, model not in fresh)


def facts_of(order: Order, rows: Sequence[Timed]) -> list[dict[str, Any]]:
    """Return rows as plain data: model, latency_ms, ratio, interval (of the ratio), flags and conditions."""
    return [
        {
            "model": row.model.name,
            "latency_ms": row.latency_ms.value,
            "ratio": row.ratio.value,
            "interval": [row.ratio.low, row.ratio.high],
            "latency_interval_ms": [row.latency_ms.low, row.latency_ms.high],
            "p50_ms": row.p50_ms,
            "p90_ms": row.p90_ms,
            "rounds": row.rounds,
            "flags": list(row.flags),
            "cached": row.cached,
            "imgsz": written(row.model.imgsz),
            **conditions(order.spec_of(row.model)),
            "batch": order.spec.batch,
        }
        for row in rows
    ]
