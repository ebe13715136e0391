"""`paretoprune export pruned.pt data=data.yaml base=best.pt format=onnx quantize=8,32`: a checkpoint without a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.config import overrides as read
from search.config.inputs.checkpoint_header import checkpoint_facts
from search.config.sections import LatencySpec
from search.errors import ConfigError

if TYPE_CHECKING:
    from search.export.report import ExportReport

KEYS: Mapping[str, read.Reader] = {
    **{"data": read.present, "base": read.file, "imgsz": read.size, "format": read.names, "device": read.word},
    **{"quantize": lambda key, value: value, "max_drop": read.fall, "seconds": read.positive, "out": read.place},
}
EXAMPLE = "paretoprune export pruned.pt data=data.yaml base=best.pt format=onnx quantize=8,32"


@dataclass(frozen=True)
class FileExport:
    """What was asked. `base`: the model it was pruned from; latencies are compared with its float32 file."""

    model: Path
    data: Path
    base: Path | None = None
    imgsz: int = 640
    format: tuple[str, ...] = ("onnx",)
    quantize: object = None
    device: str = "cpu"
    max_drop: float | None = None
    seconds: float = LatencySpec.model_fields["seconds"].default
    out: Path | None = None

    @classmethod
    def from_keys(cls, model: Path, keys: Mapping[str, Any]) -> FileExport:
        """From `key=value` pairs.

        Raises:
            ConfigError: an unknown or missing key, a value of the wrong kind, a file that is not there.
        """
        if not model.is_file():
            raise ConfigError(f"no such file: {model}", expected=EXAMPLE)
        values = read.read_keys(keys, KEYS)
        if "data" not in values:
            raise ConfigError(f"data= is needed to verify what {model} is exported to", expected=EXAMPLE)
        values.setdefault("imgsz", checkpoint_facts(model).imgsz or 640)
        return cls(model, **values)

    @property
    def folder(self) -> Path:
        """Where the artefacts and export.json go."""
        return self.out or self.model.with_name(f"{self.model.stem}-exported")


def export_file(order: FileExport) -> ExportReport:
    """Export and verify as for a trial. Raises as `search.deliver.verified_export.export_model`."""
    from search.deliver.verified_export import export_model

    return export_model(
        order.model,
        order.folder,
        order.format,
        data=order.data,
        imgsz=order.imgsz,
        device=order.device,
        quantize=order.quantize,
        max_drop=order.max_drop,
        latency=LatencySpec(seconds=order.seconds),
        base=order.base,
    )
