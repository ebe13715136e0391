"""`paretoprune export pruned.pt data=data.yaml base=best.pt format=onnx quantize=8,32`: export without a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from search.config.overrides import Data, Drop, File, InputSize, Names, Order, Place, Positive, Word, trained_size
from search.config.sections import LatencySpec

if TYPE_CHECKING:
    from search.export.report import ExportReport


class FileExport(Order):
    """Arguments of the export. `base`: the unpruned model; latencies are compared with its float32 file."""

    example = "paretoprune export pruned.pt data=data.yaml base=best.pt format=onnx quantize=8,32"
    lacking = "{keys} is needed to verify what {model} is exported to"

    model: Path
    data: Data
    base: File | None = None
    imgsz: InputSize = Field(default_factory=trained_size)
    format: Names = ("onnx",)
    device: Word = "cpu"
    quantize: object = None
    batch: object = None
    dynamic: object = None
    nms: object = None
    conf: object = None
    iou: object = None
    max_drop: Drop | None = None
    seconds: Positive = LatencySpec.model_fields["seconds"].default
    out: Place | None = None

    @property
    def folder(self) -> Path:
        """Folder of the artefacts and export.json."""
        return self.out or self.model.with_name(f"{self.model.stem}-exported")


def export_file(order: FileExport) -> ExportReport:
    """Export and verify as for a trial. Raises as `search.deliver.verified_export.export_model`."""
    from search.export.formats import checked_targets
    from search.export.graph_options import GraphOptions

    graph = GraphOptions.of(order.model_dump())
    checked_targets(order.format, order.quantize, device=order.device, graph=graph)  # before PyTorch is loaded
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
        graph=graph,
    )
