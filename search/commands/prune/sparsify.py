"""Single weights instead of channels: `paretoprune prune mask=...`.

A masked checkpoint is a stock one with zeros, and a note (MASK) that says they are meant.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.config import overrides as read
from search.errors import ConfigError
from search.workers.run_isolated import run_isolated

MASK = "paretoprune_mask"
UNSTRUCTURED = "unstructured"

_MASK_KEYS: Mapping[str, read.Reader] = {
    **{"model": read.network, "mask": read.word, "sparsity": read.share},
    **{"scope": read.one_of("global", "layer"), "out": read.place},
}
_EXAMPLE = "paretoprune prune model=best.pt mask=unstructured sparsity=0.8, or mask=2:4"


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
    from pruning.recovery.weight_masks import n_of_m, sparsity, unstructured
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
