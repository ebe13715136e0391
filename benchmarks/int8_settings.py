"""What each setting of ONNX INT8 is worth in accuracy and time, step by step from Ultralytics' settings to ours.

    python benchmarks/int8_settings.py [MODEL DATA IMGSZ]

Defaults to both digits bases. Every file is quantised from the same float32 export with the same training images; times
are ratios to that export, interleaved, one thread. Mind the flags: on a machine that does other work they are rough.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from objectives.latency.protocol import compare_many
from objectives.runtimes.open import OPENINGS, open_side
from objectives.ultralytics_door import load_module
from search.export.artefact_accuracy import validate
from search.export.calibration_images import calibration_arrays, calibration_files
from search.export.formats import FORMATS, Target
from search.export.onnx_int8 import WEIGHTED, kept_in_float, quantise_onnx, reader_of
from search.export.ultralytics_export import make_artefact, silence
from studies.digits.make_data import make_data

DIGITS = Path(__file__).parents[1] / "studies" / "digits"


def steps(graph: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(name, keys of `quantize_static`), each step with those before it."""
    from onnxruntime.quantization import QuantType

    plain = sorted(node.name for node in graph.node if node.op_type not in WEIGHTED)
    keys: dict[str, Any] = {"nodes_to_exclude": plain}
    yield "Ultralytics 8.4: signed, extremes of all images", dict(keys)
    keys["activation_type"] = QuantType.QUInt8
    yield "+ unsigned activations", dict(keys)
    keys["extra_options"] = {"CalibMovingAverage": True}
    yield "+ mean of the images' extremes", dict(keys)
    keys["per_channel"] = True
    yield "+ weights by channel", dict(keys)
    keys["nodes_to_exclude"] = sorted(kept_in_float(graph))
    yield "+ last layers in float (what export does)", dict(keys)


def measure(model: Path, data: Path, imgsz: int) -> None:
    """Print one table."""
    import onnx
    from onnxruntime.quantization import quantize_static

    module: Any = load_module(model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain = make_artefact(model, Target(FORMATS["onnx"], 32), folder / "fp32", data=data, imgsz=imgsz)
        graph = onnx.load(str(plain)).graph
        images = list(calibration_arrays(calibration_files(data), imgsz, str(module.task)))
        made = {"float32": plain}
        for number, (title, keys) in enumerate(steps(graph)):
            made[title] = folder / f"{number}.onnx"
            with silence():
                quantize_static(str(plain), str(made[title]), reader_of("images", images), **keys)
        quantise_onnx(plain, folder / "ours.onnx", images)
        assert (folder / "ours.onnx").read_bytes() == made[title].read_bytes(), "the last step is what export does"
        _print(model, made, data, imgsz)


def _print(model: Path, made: Mapping[str, Path], data: Path, imgsz: int) -> None:
    sides = [open_side(path, OPENINGS, runtime="onnxruntime", imgsz=imgsz) for path in made.values()]
    times = compare_many(sides, open_side(made["float32"], OPENINGS, runtime="onnxruntime", imgsz=imgsz))
    print(f"\n{model.name}, {imgsz} px\n\n| file | mAP50-95 | time of float32 | flags |\n|---|---:|---:|---|")
    for (title, path), time in zip(made.items(), times, strict=True):
        accuracy = validate(path, model, data, imgsz=imgsz, device="cpu").figures["map50_95"].value
        ratio = time.ratio
        print(f"| {title} | {accuracy:.4f} | {ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f}) | ", end="")
        print(f"{', '.join(time.flags)} |", flush=True)


def main() -> None:
    logging.disable(logging.WARNING)
    if len(sys.argv) == 4:
        measure(Path(sys.argv[1]), Path(sys.argv[2]).resolve(), int(sys.argv[3]))
        return
    data = make_data(DIGITS / "data")
    for base in ("yolov8n-digits.pt", "yolo11n-digits.pt"):
        measure(DIGITS / base, data, 128)


if __name__ == "__main__":
    main()
