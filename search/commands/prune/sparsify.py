"""Unstructured and N:M sparsity: `paretoprune prune mask=...`.

A masked checkpoint is a stock one with zeros, and a note (MASK) that marks them as intended.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from objectives.held_folder import held_folder
from objectives.ultralytics_door import is_ultralytics
from search.config.overrides import Network, Order, Place, Share, Word, one_of
from search.errors import ConfigError
from search.workers.run_isolated import run_isolated

MASK = "paretoprune_mask"
UNSTRUCTURED = "unstructured"


class Mask(Order):
    """Weights to zero: the smallest `sparsity` of all (scope global) or of each layer; or all but n of every m."""

    example = "paretoprune prune model=best.pt mask=unstructured sparsity=0.8, or mask=2:4"
    lacking = "{keys} is needed"

    model: Network
    mask: Word
    sparsity: Share | None = None
    scope: Annotated[str, one_of("global", "layer")] = "global"
    out: Place | None = None

    @classmethod
    def from_keys(cls, keys: Mapping[str, Any], **given: Any) -> Self:
        """Parse keys as `Order.from_keys`; a pattern excludes sparsity and scope."""
        order = super().from_keys({**keys, "mask": _as_pattern(keys["mask"])}, **given)
        if order.mask == UNSTRUCTURED and order.sparsity is None:
            raise ConfigError("mask=unstructured needs sparsity=", expected=cls.example)
        if order.mask != UNSTRUCTURED:
            _n_and_m(order.mask)
            surplus = next((key for key in keys if key in ("sparsity", "scope")), None)
            if surplus:
                raise ConfigError(f"mask={order.mask} fixes everything, so {surplus}= is not allowed")
        return order

    @property
    def file(self) -> Path:
        """Checkpoint to write."""
        name = self.mask.replace(":", "of") if self.sparsity is None else f"{self.sparsity:g}"
        return (self.out or Path(f"{self.model.stem}-masked-{name}")) / "masked.pt"


def _as_pattern(value: object) -> str:
    """Restore 2:4, which YAML 1.1 reads as a base-60 number: 124."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 60:
        return f"{value // 60}:{value % 60}"
    return str(value)


def _n_and_m(text: str) -> tuple[int, int]:
    n, _, m = text.partition(":")
    if not (n.isdecimal() and m.isdecimal() and len(text) < 9 and 0 < int(n) <= int(m)):
        raise ConfigError(f"no mask {text!r}", where="mask=", expected="unstructured, or N:M with N <= M, such as 2:4")
    return int(n), int(m)


def mask_once(order: Mask) -> dict[str, Any]:
    """Write masked.pt; return the sparsity before and after.

    Raises:
        ConfigError: masked.pt exists already, or is not writable. PreparationFailed: with the cause's exit code.
    """
    if order.file.exists():
        raise ConfigError(f"{order.file} exists already", expected="a new folder: out=FOLDER")
    with held_folder("mask") as log:
        facts: dict[str, Any] = run_isolated(mask_in_child, (order,), log, log_stays=False)
    return facts


def mask_in_child(order: Mask) -> dict[str, Any]:
    """Run `mask_once` in a quiet child process."""
    from pruning.checkpoints.checkpoint import read_notes
    from pruning.recovery.weight_masks import n_of_m, sparsity, unstructured
    from search.evaluate.workload import load_model, save_model

    model = load_model(order.model)
    notes = read_notes(order.model) if is_ultralytics(model) else {}  # of a pruned one its plan
    before = sparsity(model)
    if order.sparsity is not None:
        masks = unstructured(model, order.sparsity, whole_model=order.scope == "global")
    else:
        masks = n_of_m(model, *_n_and_m(order.mask))
    masks.enforce(model)
    try:
        save_model(model, order.file, **notes, **{MASK: order.mask})
    except OSError as error:
        raise ConfigError(f"cannot write to {order.file.parent}: {error.strerror}", where="out=") from error
    after = sparsity(load_model(order.file))
    return {
        "model": str(order.file),
        "base": str(order.model),
        "mask": order.mask,
        "layers": len(masks.keep),
        "sparsity": {"before": before, "after": after},
    }
