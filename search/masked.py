"""Single weights instead of channels: `paretoprune prune mask=...`, and the fine-tune of one checkpoint, masks kept.

A masked checkpoint is a stock one with zeros, and a note (MASK) that says they are meant. `finetune` of such a file
puts the zeros back after every step, so the share of zeros is the same before and after.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from search import key_values as read
from search.checkpoint_facts import checkpoint_facts
from search.errors import ConfigError
from search.evaluate.prepare import run_isolated
from search.sections import RecoverSpec

MASK = "paretoprune_mask"
UNSTRUCTURED = "unstructured"

_MASK_KEYS: Mapping[str, read.Reader] = {
    **{"model": read.network, "mask": read.word, "sparsity": read.share},
    **{"scope": read.one_of("global", "layer"), "out": read.place},
}
_TUNE_KEYS: Mapping[str, read.Reader] = {
    **{"data": read.present, "base": read.file, "imgsz": read.size},
    **{"device": read.word, "seed": read.seed, "out": read.place},
}
_EXAMPLE = "paretoprune prune model=best.pt mask=unstructured sparsity=0.8, or mask=2:4"
_TUNE_EXAMPLE = "paretoprune finetune pruned.pt data=data.yaml base=best.pt epochs=10"


@dataclass(frozen=True)
class Mask:
    """Which weights go: the smallest `sparsity` of all (scope global) or of each layer; or all but n of every m."""

    model: Path
    mask: str
    sparsity: float | None = None
    scope: str = "global"
    out: Path | None = None

    @classmethod
    def from_keys(cls, keys: Mapping[str, Any]) -> Mask:
        """From `key=value` pairs.

        Raises:
            ConfigError: an unknown, missing or contradicting key, a value of the wrong kind, a file that is not there.
        """
        keys = {**keys, "mask": _as_pattern(keys["mask"])}
        values = read.read_keys(keys, _MASK_KEYS)
        if "model" not in values:
            raise ConfigError("model= is needed", expected=_EXAMPLE)
        if values["mask"] == UNSTRUCTURED and "sparsity" not in values:
            raise ConfigError("mask=unstructured needs sparsity=", expected=_EXAMPLE)
        if values["mask"] != UNSTRUCTURED:
            _n_and_m(values["mask"])
            surplus = [key for key in ("sparsity", "scope") if key in values]
            if surplus:
                raise ConfigError(f"mask={values['mask']} says everything, {surplus[0]}= cannot change it")
        return cls(**values)

    @property
    def file(self) -> Path:
        """The checkpoint to write."""
        name = self.mask.replace(":", "of") if self.sparsity is None else f"{self.sparsity:g}"
        return (self.out or Path(f"{self.model.stem}-masked-{name}")) / "masked.pt"


def _as_pattern(value: object) -> str:
    """YAML 1.1 reads 2:4 as a number to the base of sixty: 124."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 60:
        return f"{value // 60}:{value % 60}"
    return str(value)


def _n_and_m(text: str) -> tuple[int, int]:
    n, _, m = text.partition(":")
    if not (n.isdigit() and m.isdigit() and 0 < int(n) <= int(m)):
        raise ConfigError(f"no mask {text!r}", where="mask=", expected="unstructured, or N:M with N <= M, such as 2:4")
    return int(n), int(m)


def mask_once(order: Mask) -> dict[str, Any]:
    """Write masked.pt; returns the share of zeros before and after.

    Raises:
        ConfigError: masked.pt is there already, or cannot be written. PreparationFailed: with the cause's exit code.
    """
    if order.file.exists():
        raise ConfigError(f"{order.file} exists already", expected="a new folder: out=FOLDER")
    with tempfile.TemporaryDirectory(prefix="paretoprune-mask-") as log:
        facts: dict[str, Any] = run_isolated(mask_in_child, (order,), Path(log), log_stays=False)
    return facts


def mask_in_child(order: Mask) -> dict[str, Any]:
    """What `mask_once` does, in a quiet process of its own."""
    from pruning.sparsity import n_of_m, sparsity, unstructured
    from search.evaluate.workload import load_model, save_model

    model = load_model(order.model)
    before = sparsity(model)
    if order.mask == UNSTRUCTURED:
        assert order.sparsity is not None
        masks = unstructured(model, order.sparsity, whole_model=order.scope == "global")
    else:
        masks = n_of_m(model, *_n_and_m(order.mask))
    masks.enforce(model)
    try:
        save_model(model, order.file, **{MASK: order.mask})
    except OSError as error:
        raise ConfigError(f"cannot write to {order.file.parent}: {error.strerror}", where="out=") from error
    after = sparsity(load_model(order.file))
    return {
        "model": str(order.file),
        "mask": order.mask,
        "layers": len(masks.keep),
        "sparsity": {"before": before, "after": after},
    }


@dataclass(frozen=True)
class Tuning:
    """A fine-tune of one checkpoint. `base`: the model it was pruned from: sets the learning rate and teaches."""

    model: Path
    data: Path
    base: Path | None = None
    imgsz: int = 640
    device: str = "auto"
    seed: int = 0
    recover: RecoverSpec = field(default_factory=RecoverSpec)
    out: Path | None = None

    @classmethod
    def from_keys(cls, model: Path, keys: Mapping[str, Any]) -> Tuning:
        """From `key=value` pairs: our own, epochs=, fraction=, batch=, distill=, slimming=, and keys of YOLO.train.

        Raises:
            ConfigError: a missing key, a value of the wrong kind, a file that is not there.
        """
        if not model.is_file():
            raise ConfigError(f"no such file: {model}", expected=_TUNE_EXAMPLE)
        values = read.read_keys({key: value for key, value in keys.items() if key in _TUNE_KEYS}, _TUNE_KEYS)
        if "data" not in values:
            raise ConfigError(f"data= is needed to fine-tune {model}", expected=_TUNE_EXAMPLE)
        rest = {key: value for key, value in keys.items() if key not in _TUNE_KEYS}
        try:
            recover = RecoverSpec.model_validate({"epochs": 50, "fraction": 1.0, **rest})
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"])) or "key=value"
            raise ConfigError(f"{name}: {first['msg']}", where="command line", expected=_TUNE_EXAMPLE) from error
        values.setdefault("imgsz", checkpoint_facts(model).imgsz or 640)
        return cls(model, **values, recover=recover)

    @property
    def file(self) -> Path:
        """The checkpoint to write."""
        return self.out or self.model.with_name(f"{self.model.stem}-finetuned.pt")


def finetune_file(order: Tuning) -> dict[str, Any]:
    """Fine-tune one checkpoint, architecture and masks kept; accuracy and the share of zeros, before and after.

    Raises:
        ConfigError: the target is there already. PreparationFailed: with the exit code of the cause.
    """
    if order.file.exists():
        raise ConfigError(f"{order.file} exists already", expected="another file: out=FILE.pt")
    with tempfile.TemporaryDirectory(prefix="paretoprune-finetune-") as work:
        facts: dict[str, Any] = run_isolated(tune_in_child, (order, Path(work)), Path(work), log_stays=False)
    return facts


def tune_in_child(order: Tuning, work: Path) -> dict[str, Any]:
    """What `finetune_file` does, in a quiet process of its own."""
    from objectives.accuracy import measure_accuracy
    from pruning.checkpoint import load_model, read_notes, save_model
    from pruning.repair import repair
    from pruning.sparsity import masks_of, sparsity
    from search.evaluate import pruned
    from search.evaluate.own_task import refuse_plain

    refuse_plain(order.model, "finetune of a file")
    device, notes = pruned.resolve_device(order.device), read_notes(order.model)
    model = load_model(order.model)
    masks = masks_of(model) if MASK in notes else None
    zeros = sparsity(model)

    def figures(subject: Any, name: str) -> dict[str, float]:
        found = measure_accuracy(subject, order.data, imgsz=order.imgsz, device=device, work_dir=work / name)
        return {figure: estimate.value for figure, estimate in found.figures.items()}

    before = figures(model, "before")
    how = pruned.recovery_of(order.recover, imgsz=order.imgsz, device=device, seed=order.seed)
    repaired = repair(
        model, order.data, how, origin=None, base=order.base, masks=masks, work_dir=work / "recover",
        fitness=pruned.fitness_of(order.data, order.imgsz, device, work / "fitness"),
    )  # fmt: skip
    part = order.file.with_name(f".{order.file.name}.part")
    try:
        save_model(repaired.model, part, **notes)
        os.replace(part, order.file)
    except OSError as error:
        raise ConfigError(f"cannot write {order.file}: {error.strerror}", where="out=") from error
    shutil.rmtree(work / "recover", ignore_errors=True)
    tuned = load_model(order.file)
    return {
        "model": str(order.file),
        "mask": notes.get(MASK),
        "sparsity": {"before": zeros, "after": sparsity(tuned)},
        "figures": {"before": before, "after": figures(tuned, "after")},
        "repair": [asdict(step) for step in pruned.repair_steps(repaired)],
    }
