"""Decide whether a repair step helped, without using the validation split.

The loss in evaluation mode on training images that the fine-tune does not see, as the validator would show them: not
augmented, in the same batches for every network. Networks that share a base share most of the error of such a loss, so
they are compared batch by batch. Measured on real and on made data, its sign was that of the change in mAP wherever
that change was larger than its own error (docs/recovery.md).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.data import Dataset, default_collate
from ultralytics.data.build import build_yolo_dataset
from ultralytics.data.dataset import ClassificationDataset
from ultralytics.models.rtdetr.train import RTDETRTrainer

from pruning.recovery.images import Size, sides
from ultralytics_versions.parts import E2ELoss, accepted, get_split_fraction

Floats = npt.NDArray[np.float64]

BATCHES = 8
"""Paired differences; their spread is the error of the verdict."""
MOST_PIXELS = 128 * 320 * 320
"""Of all judged images: 128 at 320 px, 64 at least at any size."""


@dataclass(frozen=True)
class Verdict:
    """Effect of one repair step: mean paired difference of the loss (below 0: better) and its standard error.

    `change` is None if the loss is not finite, `error` if there is only one batch.
    """

    step: str
    kept: bool
    change: float | None
    error: float | None


class Judge(Protocol):
    """Measures the loss of a network."""

    def losses(self, model: nn.Module) -> Floats:
        """Return a loss (B,) for each of the same B batches; less is better. The network's mode is restored."""
        ...


def compare(step: str, before: Floats, after: Floats) -> Verdict:
    """Keep a step unless the loss rose by more than its standard error: at a tie, the later network saw more data."""
    if not np.isfinite(after).all():
        return Verdict(step, False, None, None)
    if not np.isfinite(before).all():
        return Verdict(step, True, None, None)
    differences = after - before
    change = float(differences.mean())
    error = float(differences.std(ddof=1) / math.sqrt(len(differences))) if len(differences) > 1 else None
    return Verdict(step, change <= (error or 0.0), change, error)


@dataclass(frozen=True)
class TrainingLoss:
    """`Judge` of Ultralytics models by their training loss on held-out training images.

    Args:
        trainer: of the model's task, set up for the data; it prepares batches and knows loss weights and device.
        batches: as the data set collates them.
        files: the images in them, to be left out of the fine-tune.
        beat: called before every batch.
    """

    trainer: Any
    batches: Sequence[dict[str, Any]]
    files: frozenset[str]
    beat: Callable[[], None] | None = None

    @classmethod
    def of(cls, trainer: Any, beat: Callable[[], None] | None = None) -> TrainingLoss:
        """Choose the held-out images of a trainer that has its model."""
        dataset = evaluation_dataset(trainer)
        files = files_of(dataset)
        chosen = held_out(len(files), most_images(input_size(trainer)))
        judged = chosen or list(range(len(files)))
        parts = [part for part in np.array_split(np.array(judged), BATCHES) if len(part)]
        collate = getattr(dataset, "collate_fn", default_collate)
        batches = [collate([dataset[int(index)] for index in part]) for part in parts]
        return cls(trainer, batches, frozenset(files[index] for index in chosen), beat)

    def losses(self, model: nn.Module) -> Floats:
        """Return the loss per image (B,) of each batch; see `Judge.losses`."""
        with with_its_loss(model, self.trainer) as subject:
            return np.array([self._loss(subject, batch) for batch in self.batches], dtype=np.float64)

    def _loss(self, model: Any, batch: dict[str, Any]) -> float:
        if self.beat is not None:
            self.beat()
        ready = self.trainer.preprocess_batch(dict(batch))
        return float(model.loss(ready)[0].sum()) / len(ready["img"])


@contextmanager
def with_its_loss(model: nn.Module, trainer: Any) -> Iterator[Any]:
    """Give a network a trainer's loss and device while inside: evaluation mode, without gradients."""
    subject: Any = model
    arguments, was_training = getattr(subject, "args", None), subject.training
    weights = subject.__dict__.pop("class_weights", None)  # a trainer's, of one of the networks compared
    home = next(subject.parameters()).device
    subject.to(trainer.device).eval()
    subject.args, subject.criterion = trainer.args, None
    subject.criterion = trained_criterion(subject)
    try:
        with torch.no_grad():
            yield subject
    finally:
        subject.args, subject.criterion = arguments, None
        if weights is not None:
            subject.class_weights = weights
        subject.to(home).train(was_training)


def trained_criterion(model: Any) -> Any:
    """Return the loss of a fully trained network.

    End-to-end heads are trained by two losses whose weights change over the epochs (`E2ELoss`): the one used in
    deployment rises from a fifth to nine tenths. A fine-tune that restarted the schedule would train the other one.
    """
    criterion = model.init_criterion()
    if isinstance(criterion, E2ELoss):
        criterion.o2m = criterion.o2m_copy = criterion.final_o2m  # it does not move from here
        criterion.o2o = criterion.total - criterion.o2m
    return criterion


def evaluation_dataset(trainer: Any) -> Any:
    """Return the trainer's training images, prepared as in a validation at the input size of its `data_trainer`."""
    arguments, images = copy.copy(trainer.args), trainer.data["train"]
    arguments.cache, arguments.rect = False, False
    if isinstance(trainer, RTDETRTrainer):
        return trainer.build_dataset(images, mode="val")
    if arguments.task == "classify":
        names = accepted(ClassificationDataset, names=trainer.data.get("names"))
        return ClassificationDataset(root=images, args=arguments, augment=False, prefix="train", **names)
    stride, fraction = max(int(trainer.model.stride.max()), 32), get_split_fraction(arguments.fraction, "train")
    share = accepted(build_yolo_dataset, fraction=fraction)  # older releases give all images
    return build_yolo_dataset(arguments, images, 1, trainer.data, mode="val", rect=False, stride=stride, **share)


def input_size(trainer: Any) -> Size:
    """Return the input size of a `data_trainer`, whose arguments may have two sides, in px."""
    size = trainer.args.imgsz
    return size if isinstance(size, int) else (int(size[0]), int(size[1]))


def files_of(dataset: Any) -> list[str]:
    """Return the image file of each index."""
    samples = getattr(dataset, "samples", None)
    return [str(sample[0]) for sample in samples] if samples is not None else list(map(str, dataset.im_files))


def most_images(imgsz: Size) -> int:
    """Return the largest useful number of held-out images at an input size."""
    return max(64, min(128, MOST_PIXELS // math.prod(sides(imgsz))))


def held_out(total: int, most: int) -> list[int]:
    """Return the indices to hold out: a tenth of the images, 16 to `most`, but never more than a quarter.

    The same in every trial of a study. Empty below four images.
    """
    count = min(most, max(total // 10, min(16, total // 4)))
    return sorted(int(index) for index in np.random.default_rng(0).permutation(total)[:count])


class TrainingSubset(Dataset[Any]):
    """An Ultralytics data set without some of its images.

    Mosaic and mixup, if a user enables them, still draw from all images.
    """

    def __init__(self, dataset: Any, files: frozenset[str]) -> None:
        self.dataset = dataset
        self.indices = [index for index, file in enumerate(files_of(dataset)) if file not in files]

    def __getattr__(self, name: str) -> Any:
        if name == "dataset":  # asked for while it is unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self.indices[index]]
