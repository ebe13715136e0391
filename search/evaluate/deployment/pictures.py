"""Validation pictures on which end-to-end latency is timed, chosen once per study by what the base finds on them.

    base/pictures.json    {"format", "conf", "iou", "looked_at", "mean_boxes", "pictures": [{"file", "boxes"}]}

Of pictures at even distances of the validation split, those at the quantiles of the number of boxes: so many of them as
a side has openings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from objectives.errors import LatencyError
from objectives.image_size import Size
from objectives.resources.end_to_end import View, typical
from objectives.resources.pipeline import Picture, Pipeline, has_own_end, raw_outputs
from objectives.runtimes.names import is_command
from objectives.runtimes.open import OPENINGS
from objectives.runtimes.torch_runner import input_channels
from pruning.recovery.images import read_image
from search.config.inputs.dataset import LabelRules, open_dataset
from search.config.sections import LatencySpec
from search.config.spec import StudySpec
from search.run_folder.atomic import write_json
from search.run_folder.quarantine import derived_json

FORMAT = 1
FILE = "pictures.json"
LOOKED_AT = 32


def deployment_pictures(
    spec: StudySpec, model: Any, base_dir: Path, names: Iterable[str], beat: Callable[[], None] = lambda: None
) -> tuple[str, ...]:
    """Return the files on which end-to-end latency is timed, those of a middling number of boxes first.

    Args:
        names: the further costs that are measured; no files unless `e2e_ms` is among them and is timed here.

    Raises:
        ConfigError: the data set cannot be read. LatencyError: no picture of it can.
    """
    if "e2e_ms" not in names or is_command(spec.latency.runtime):
        return ()
    return files_of(choose_pictures(spec, model, base_dir / FILE, beat))


def recorded_pictures(base_dir: Path) -> tuple[str, ...]:
    """Return the files that were chosen; none if none were."""
    return files_of(derived_json(base_dir / FILE))


def files_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the files of a record of `choose_pictures`."""
    return tuple(str(row["file"]) for row in record.get("pictures", ()))


def choose_pictures(spec: StudySpec, model: Any, path: Path, beat: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Return the record of the study's pictures, and write it to `path`; one that is there for these thresholds stays.

    Raises:
        ConfigError: the data set cannot be read. LatencyError: no picture of it can.
    """
    known = derived_json(path)
    if known.get("format") == FORMAT and (known["conf"], known["iou"]) == (spec.latency.conf, spec.latency.iou):
        return known
    dataset = open_dataset(Path(spec.data), LabelRules.of(model))
    files = [str(file) for file in dataset.usable(dataset.files("val"), LOOKED_AT)]
    pictures = read_pictures(files, model)
    counts = boxes_found(spec.latency, model, pictures, spec.imgsz, beat)
    chosen = [{"file": files[place], "boxes": counts[place]} for place in typical(counts, OPENINGS)]
    found = {
        "format": FORMAT,
        "conf": spec.latency.conf,
        "iou": spec.latency.iou,
        "looked_at": len(files),
        "mean_boxes": sum(counts) / len(counts),
        "pictures": chosen,
    }
    write_json(path, found, durable=False)
    return found


def read_pictures(files: Sequence[str], model: Any) -> list[Picture]:
    """Return the decoded pictures. Raises LatencyError if one is gone, or if there is none."""
    found = []
    for file in files:
        picture = read_image(file, input_channels(model))
        if picture is None:
            raise LatencyError(f"{file} cannot be read, and end-to-end latency is timed on it.")
        found.append(picture)
    if not found:
        raise LatencyError("There is no validation picture to time end-to-end latency on.")
    return found


def boxes_found(
    spec: LatencySpec, model: Any, pictures: Sequence[Picture], imgsz: Size, beat: Callable[[], None] = lambda: None
) -> list[int]:
    """Return how many boxes a network finds on each picture at the study's thresholds; of a classifier none."""
    pipeline, counts = pipeline_of(spec, model, imgsz), []
    images = [pipeline.input_of([picture]) for picture in pictures]
    answers = raw_outputs(model, images, exported=is_exported(spec))
    for picture, image, outputs in zip(pictures, images, answers, strict=True):
        beat()
        (found,) = pipeline.objects_of(outputs, image, [picture])
        boxes = found.boxes if found.boxes is not None else found.obb
        counts.append(0 if boxes is None else len(boxes))
    return counts


def views_of(spec: LatencySpec, model: Any, files: Sequence[str], imgsz: Size) -> tuple[View, ...]:
    """Return the pictures with what `model`, an unpruned network, answers to them at an input size."""
    pictures, pipeline = read_pictures(files, model), pipeline_of(spec, model, imgsz)
    images = [pipeline.input_of([picture]) for picture in pictures]
    outputs = raw_outputs(model, images, exported=is_exported(spec))
    return tuple(View(picture, answer) for picture, answer in zip(pictures, outputs, strict=True))


def pipeline_of(spec: LatencySpec, model: Any, imgsz: Size) -> Pipeline:
    """Return pre- and post-processing of a network at an input size and the study's thresholds."""
    end2end = has_own_end(model, exported=is_exported(spec))
    return Pipeline(model, imgsz=imgsz, conf=spec.conf, iou=spec.iou, end2end=end2end)


def is_exported(spec: LatencySpec) -> bool:
    """Return whether the runtime opens a file: PyTorch runs the network as it is."""
    return spec.runtime != "torch"
