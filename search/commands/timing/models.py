"""Resolve the words of `bench`: the models to time, their input sizes and their origin."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from objectives.image_size import Size, size_of
from objectives.runtimes.names import Runtime
from search.config import yaml_source
from search.config.inputs.checkpoint_facts import checkpoint_facts
from search.config.inputs.user_code import UserReference
from search.deliver.picked_trial import PickedTrial
from search.errors import ConfigError
from search.references import find_run, resolve
from search.results.results import Results
from search.study import Study
from search.trial import Trial

_KEY = re.compile(r"^[a-z_][a-z_.]*=")
_ONLY: Mapping[str, Runtime] = {
    ".xml": "openvino",
    ".engine": "tensorrt",
    ".torchscript": "torchscript",
    ".mnn": "mnn",
    ".tflite": "litert",
}
"""Suffix of a file -> the only runtime that opens it."""
_FOLDERS: Mapping[str, Runtime] = {"*.xml": "openvino", "*.param": "ncnn", "*.pte": "executorch"}
"""What lies in an exported folder -> the only runtime that opens it."""
_SUFFIXES = (".pt", ".onnx", *_ONLY)
_FALLBACK_IMGSZ = 640


@dataclass(frozen=True)
class Model:
    """One row of a bench.

    Attributes:
        name: as the user wrote it; `RUN:17` and `RUN:base` of a whole run.
        imgsz: input size in pixels.
        path: an artefact on disk; None for a trial whose weights were not kept: it is built from its plan.
        runtime: what it is timed on; None: that of the order.
        picked: the trial or base of a run that it is.
    """

    name: str
    imgsz: Size
    path: Path | None
    runtime: str | None = None
    picked: PickedTrial | None = field(default=None, compare=False)

    @property
    def run(self) -> Path | None:
        """Run that the model belongs to."""
        return None if self.picked is None else self.picked.results.record.path

    @property
    def is_artefact(self) -> bool:
        """True if its file is timed as it is, as that of a trial in INT8; all else is loaded as a module first."""
        return self.path is not None and self.path.suffix != ".pt" and UserReference.parse(self.path) is None

    @property
    def is_base(self) -> bool:
        """True of the base that is the reference of its run's latencies."""
        return self.picked is not None and self.picked.trial is None and not self.picked.unpruned

    def module(self) -> Any:
        """Return the PyTorch module. Latency does not depend on the values of weights, so a plan is enough."""
        from dataclasses import replace

        from pruning import Plan
        from search.evaluate.workload import load_model

        if self.path is not None:
            return load_model(self.path)
        if self.picked is None or self.picked.trial is None or self.picked.trial.measured.plan is None:
            raise ConfigError(f"{self.name} has neither a file nor a plan", expected="a complete trial, or a file")
        plan = Plan.from_json(self.picked.trial.measured.plan)
        base, graph = _traced(self.picked.spec.model, plan.example_shape)
        return replace(plan, graph=graph).apply(base)


@lru_cache(maxsize=2)
def _traced(model: str, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Return the base and its graph, cached: a front is many plans of one trace."""
    import torch

    from pruning import trace
    from search.evaluate.workload import load_model

    base = load_model(model)
    return base, trace(base, torch.zeros(shape))


def split_words(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Return (models, overrides): `runtime=openvino` is an override, `RUN:best@latency_ms<=5` or a file is a model."""
    keys = [word for word in words if _KEY.match(word) and not Path(word).exists()]
    return [word for word in words if word not in keys], yaml_source.parse_overrides(keys)


def models_of(words: Sequence[str], imgsz: Size | None = None) -> list[Model]:
    """Return the named models, each once: files, `RUN:REF`, or `RUN`, which is its base and its front.

    Raises:
        ConfigError: a word that names nothing; NothingFits: a budget that no trial is within.
    """
    found = [model for word in words for model in _named(word, imgsz)]
    if not found:
        raise ConfigError("no model was named", expected="paretoprune bench best.pt small.onnx, or a run, or RUN:17")
    return list({(model.name, model.imgsz): model for model in found}.values())


def model_of(picked: PickedTrial, name: str | None = None, imgsz: Size | None = None) -> Model:
    """Return a trial or base of a run as it was measured, with its weights if kept; in INT8 its quantised file."""
    if picked.trial is not None and picked.trial.candidate.precision != "fp32":
        return Model(name or picked.name, imgsz or picked.imgsz, _quantised(picked), picked=picked)
    try:
        path: Path | None = picked.weights()
    except ConfigError:
        measured = None if picked.trial is None else picked.trial.measurement
        if measured is None or measured.plan is None:
            raise
        path = None
    if path is not None and not path.is_file() and UserReference.parse(path) is None:
        raise ConfigError(f"no such file: {path}", where=f"the model of {picked.name} of {picked.results.record.path}")
    return Model(name or picked.name, imgsz or picked.imgsz, path, picked=picked)


def _quantised(picked: PickedTrial) -> Path:
    """Return the quantised file: a plan cannot reproduce its calibration."""
    path = picked.artefact()
    if path is None:
        raise ConfigError(
            f"the file of {picked.name} was not kept",
            expected="keep.weights: all, or a trial on the front",
            next_command=f"paretoprune export {picked.ref}",
        )
    return path


def front_of(results: Results) -> list[Trial]:
    """The trials on the front, cheapest first; their exports are named one by one (`RUN:17-int8`)."""
    trials = [trial for trial in results.front if not trial.exported]
    return sorted(trials, key=lambda trial: (_latency(trial), trial.number))


def _latency(trial: Trial) -> float:
    figures = {} if trial.measurement is None else trial.measurement.figures
    return figures["latency_ms"].value if "latency_ms" in figures else 0.0


def _named(word: str, imgsz: Size | None) -> list[Model]:
    path = Path(word)
    if path.suffix in _SUFFIXES or (path.is_dir() and _folder_runtime(path) is not None):
        if not path.exists():
            raise ConfigError(f"no such file: {word}", where="bench", expected=f"a model ({', '.join(_SUFFIXES)})")
        return [Model(word, imgsz or imgsz_of(path), path)]
    if ":" in word and not path.exists():
        return [model_of(resolve(word), word, imgsz)]
    study = Study.load(find_run(word))
    results = study.results()
    chosen = {"base": PickedTrial(results, None, "the unpruned model")}
    names = study.spec.base_names
    chosen |= {names[n]: PickedTrial(results, None, names[n], unpruned=n) for n in range(1, len(names))}
    chosen |= {str(t.number): PickedTrial(results, t, f"trial {t.number}") for t in front_of(results)}
    return [model_of(picked, f"{study.record.path.name}:{ref}", imgsz) for ref, picked in chosen.items()]


def imgsz_of(path: Path) -> Size:
    """Return the input size of a file: that of a static graph, or the one that a checkpoint was trained or pruned for.

    Raises:
        ConfigError: the file does not specify one.
    """
    if path.suffix == ".pt":
        from search.evaluate.workload import load_model

        asked = checkpoint_facts(path).imgsz
        if asked is not None:
            return asked
        arguments = getattr(load_model(path), "args", None) or {}
        size = arguments.get("imgsz") if isinstance(arguments, Mapping) else getattr(arguments, "imgsz", None)
        return size if isinstance(size, int) else _FALLBACK_IMGSZ
    size = _static_size(path)
    if size is None:
        raise ConfigError(
            f"{path} does not say its input size", where="bench", expected="imgsz=640, for example, or 384,640"
        )
    return size


def _static_size(path: Path) -> Size | None:
    if path.suffix == ".onnx":
        import onnx

        graph = onnx.load(str(path), load_external_data=False).graph
        weights = {tensor.name for tensor in graph.initializer}
        inputs = [one for one in graph.input if one.name not in weights]
        sides = [side.dim_value for side in inputs[0].type.tensor_type.shape.dim] if inputs else []
    elif runtime_for(path) == "openvino":
        import openvino

        source = path if path.is_file() else next(iter(sorted(path.glob("*.xml"))))
        shape = openvino.Core().read_model(str(source)).input(0).partial_shape
        sides = [side.get_length() if side.is_static else 0 for side in shape]
    else:
        sides = [side if isinstance(side, int) else 0 for side in _said_shape(path)]
    return size_of(list(sides[2:])) if len(sides) == 4 else None


def _said_shape(path: Path) -> Sequence[Any]:
    """Return (batch, channels, height, width) as a file of a small board's runtime says it, `any` where it does not."""
    from objectives.errors import LatencyError
    from objectives.runtimes.edge.declared import declared_input
    from objectives.runtimes.edge.mnn_runner import mnn_input

    try:
        return mnn_input(path) if path.suffix == ".mnn" else declared_input(path)
    except LatencyError as fault:
        raise ConfigError(str(fault), where="bench", expected="a model that its runtime opens") from fault


def runtime_for(path: Path | None) -> Runtime | None:
    """Return the only runtime that can open such a file; None if there are several."""
    if path is None:
        return None
    return _folder_runtime(path) if path.is_dir() else _ONLY.get(path.suffix)


def _folder_runtime(path: Path) -> Runtime | None:
    return next((runtime for pattern, runtime in _FOLDERS.items() if any(path.glob(pattern))), None)
