"""Estimate the duration of a trial by running trainer and validator on a small sample.

The images are links in a temporary folder, so that the labels' cache of the user's data set is left alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path

import yaml
from torch import nn

from objectives.accuracy.measure import measure_accuracy
from objectives.image_size import Size
from pruning.recovery.bn_calibration import BaseMoments, calibration_batches
from pruning.recovery.finetune import recover
from pruning.recovery.judge import held_out, most_images
from pruning.recovery.repair import calibration_images
from search.config.inputs.dataset import Dataset, LabelRules, open_dataset
from search.config.spec import StudySpec
from search.evaluate.pruning_evaluator import recovery_of, task_of

BATCHES = 8
"""As many training batches as a fine-tune looks at before its first step."""
VAL_IMAGES = 64
ENOUGH_S = 20.0
"""Training steps end after that long; two at least are taken."""
START_S = 1.0
"""Process, loading, planning."""


@dataclass(frozen=True)
class TrialTime:
    """Seconds of the parts of a trial.

    Attributes:
        image_s: a forward pass of one image, read from disk.
        corrected: images on which statistics are corrected; `judged`: those on which each step is evaluated.
        setup_s: of a fine-tune before its first step: data scan, optimizer, the teacher's projectors.
        step_s: of one training step; 0 if nothing is trained.
    """

    image_s: float
    corrected: int
    judged: int
    setup_s: float
    step_s: float
    val_image_s: float

    def trial_s(self, steps: int, val_images: int, timing_s: float) -> float:
        """Return the seconds of a whole trial; `timing_s` is the time of export and latency."""
        images = 2 * self.corrected + 2 * self.judged  # base and pruned see the same ones; sliced, corrected
        if steps:  # base, for the damage; fine-tuned; corrected again
            images += 3 * self.judged + self.corrected
        trained = self.setup_s + steps * self.step_s
        return START_S + timing_s + images * self.image_s + trained + val_images * self.val_image_s


class _Enough(Exception):
    """Ends a training that was started only to measure its pace."""


@dataclass
class _Stopwatch:
    """Stops the training once its pace is known."""

    began: float = field(default_factory=time.perf_counter)
    ticks: list[float] = field(default_factory=list)

    def __call__(self, share: float) -> None:
        self.ticks.append(time.perf_counter())
        enough = len(self.ticks) >= 2 and self.ticks[-1] - self.ticks[0] > ENOUGH_S
        if share >= 1 or enough:
            raise _Enough

    def pace(self) -> tuple[float, float]:
        """Return (seconds before the first step, seconds of a step)."""
        step = statistics.median(b - a for a, b in zip([self.began, *self.ticks], self.ticks, strict=False))
        return max(0.0, self.ticks[0] - self.began - step), step


def profile_trial(spec: StudySpec, model: nn.Module, device: str, imgsz: Size, folder: Path) -> TrialTime:
    """Time the parts of a trial on a small sample of the data. `model` is pruned and trained."""
    task, batch = task_of(model), spec.recover.batch
    dataset = open_dataset(Path(spec.data), LabelRules.of(model))
    data = sample_of(dataset, folder / "data", train=BATCHES * batch, val=VAL_IMAGES)
    began, seen = time.perf_counter(), 0
    for images in calibration_batches(data, imgsz, count=calibration_images(imgsz) // 2, task=task):
        BaseMoments(model, [images])
        seen += len(images)
    image_s = (time.perf_counter() - began) / seen
    began = time.perf_counter()
    accuracy = measure_accuracy(model, data, imgsz=imgsz, device=device, work_dir=folder / "accuracy")
    val_image_s = (time.perf_counter() - began) / accuracy.images
    setup_s, step_s = _training_pace(spec, model, device, imgsz, data, folder) if spec.recover.epochs else (0.0, 0.0)
    used = round(len(dataset.files("train")) * spec.recover.fraction)
    judged = len(held_out(used, most_images(imgsz)))
    return TrialTime(image_s, calibration_images(imgsz), judged, setup_s, step_s, val_image_s)


def trial_seconds(spec: StudySpec, model: nn.Module, pace: TrialTime, timing_s: float) -> float:
    """Return the seconds of a trial on all data."""
    dataset = open_dataset(Path(spec.data), LabelRules.of(model))
    train, val = (len(dataset.files(split)) for split in ("train", "val"))
    return pace.trial_s(steps_of(spec, train), val, timing_s)


def steps_of(spec: StudySpec, train_images: int) -> int:
    """Return the training steps of one trial."""
    return spec.recover.epochs * max(1, ceil(train_images * spec.recover.fraction / spec.recover.batch))


def _training_pace(
    spec: StudySpec, model: nn.Module, device: str, imgsz: Size, data: Path, folder: Path
) -> tuple[float, float]:
    asked = recovery_of(spec.recover, imgsz=imgsz, device=device, seed=0)
    watch = _Stopwatch()
    begun = replace(asked, epochs=1, fraction=1.0)
    with suppress(_Enough):
        recover(model, data, begun, base=Path(spec.model), work_dir=folder / "recover", on_progress=watch)
    return watch.pace()


def sample_of(dataset: Dataset, folder: Path, *, train: int, val: int) -> Path:
    """Link a data set of at most `train` and `val` images of another, none of them faulty, into `folder`."""
    counts = {"train": train, "val": val}
    if dataset.rules.task == "classify":
        for split, count in counts.items():
            by_class: dict[str, list[str]] = {name: [] for name in dataset.names}
            for file in dataset.files(split):
                by_class.setdefault(Path(file).parent.name, []).append(file)
            for name, files in by_class.items():
                _link(dataset.usable(files, ceil(count / 4)), folder / split / name)
        return folder
    for split, count in counts.items():
        chosen = dataset.usable(dataset.files(split), count)
        _link(chosen, folder / "images" / split)
        _link([Path(dataset.label_of(str(path))) for path in chosen], folder / "labels" / split)
    document = {"path": str(folder), "train": "images/train", "val": "images/val", **dataset.described}
    (folder / "data.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return folder / "data.yaml"


def _link(files: Iterable[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(files):
        if path.is_file():  # an image without objects has no label file
            (folder / f"{number:05}{path.suffix}").symlink_to(path.resolve())
