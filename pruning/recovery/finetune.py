"""Fine-tuning after pruning, by Ultralytics' trainers, changed to keep the pruned module.

Two problems are solved here:

* `BaseTrainer.setup_model` rebuilds the network from its YAML, which undoes the pruning. The trainers made here
  return the module that they are given, for a new training and for a resumed one, and count its parameters before and
  after.
* Default training settings ruin a trained model within one epoch. RECIPE: a rate that falls to zero *within* the run,
  step by step (rate_schedule.py), no warm-up, no mosaic, every batch a step, and otherwise the augmentations with
  which the base was trained. No single rate serves a model that lost nothing and one that lost half: the rate is
  proportional to the damage, the relative rise of the loss over the base's (repair.py measures it). A long run
  that is judged epoch by epoch has time to repair what a rate shakes, and takes at least FULL_RUN_RATE.

docs/recovery.md has the experiments; repair.py calls this and evaluates the result.
"""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from ultralytics.engine import trainer as engine_trainer
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.models.yolo.classify import ClassificationTrainer
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.models.yolo.obb import OBBTrainer
from ultralytics.models.yolo.pose import PoseTrainer
from ultralytics.models.yolo.segment import SegmentationTrainer
from ultralytics.nn.tasks import RTDETRDetectionModel, WorldModel, YOLOEModel
from ultralytics.utils.torch_utils import unset_deterministic

from pruning.checkpoints.checkpoint import count_parameters, without_feature_hooks
from pruning.errors import DivergedError, GrewBackError, RecoveryError
from pruning.recovery.distillation import fit_projectors, teacher_of
from pruning.recovery.images import Size, give_rectangles, sides
from pruning.recovery.judge import TrainingSubset, trained_criterion
from pruning.recovery.rate_schedule import PATIENCE, CoolDown, linear_decay
from pruning.recovery.weight_masks import WeightMasks
from ultralytics_versions.parts import DistillationModel, can_distill, known_settings, unwrap_model, without_bars

_log = logging.getLogger(__name__)

if TYPE_CHECKING:

    class _Trainer:
        """Attributes of ultralytics.engine.trainer.BaseTrainer that the mixins below use."""

        data: Mapping[str, Any]
        model: Any
        ema: Any
        loss: Tensor
        optimizer: Any
        train_loader: Any
        args: Any
        device: torch.device
        scaler: Any
        accumulate: int
        batch_size: int
        epochs: int

        def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any: ...
        def preprocess_batch(self, batch: Any) -> Any: ...
        def _setup_train(self, *world_size: int) -> None: ...
        def _build_train_pipeline(self) -> None: ...
        def final_eval(self) -> None: ...
        def optimizer_step(self) -> None: ...

else:
    _Trainer = object

RECIPE: Mapping[str, Any] = {
    "optimizer": "AdamW",
    "lr0": 1e-3,  # when there is no base to compare with; otherwise LR_PER_DAMAGE decides
    "weight_decay": 5e-4,
    "warmup_epochs": 0,
    "warmup_bias_lr": 0.0,
    "mosaic": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
    "copy_paste": 0.0,
    "close_mosaic": 0,
}
"""What differs from Ultralytics' defaults in a short fine-tune."""

INHERITED = (
    *("hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear", "perspective", "flipud", "fliplr", "bgr"),
    *("erasing", "auto_augment", "multi_scale", "box", "cls", "dfl", "pose", "kobj", "rle", "angle"),
    *("single_cls", "overlap_mask", "mask_ratio"),
)
"""Augmentations and loss weights that the base was trained with, read from its checkpoint."""

LR_PER_DAMAGE = 1e-3
LR_RANGE = (1e-6, 2e-3)
FULL_RUN_RATE = 1e-3
"""The least rate of a long fine-tune that is judged epoch by epoch: it has time to repair what the rate shakes."""
FULL_DAMAGE = 0.1
"""From here on batch norms follow the batches at their own momentum; below, in proportion to the damage.

What has lost nothing keeps its statistics as it keeps its weights: a few dozen batches know them less well than a whole
training did.
"""
FITTED_IMAGES = 128
"""On which the teacher's projectors are fitted."""

DISTILLABLE = ("detect", "segment", "pose", "obb")


Spend = Literal["need", "equal"]


@dataclass(frozen=True)
class Recovery:
    """Fine-tune settings: `fraction` of the training images for `epochs` at `imgsz`; `train` overrides any key.

    Of an `imgsz` of two sides, (height, width), the images are letterboxed into exactly these (`images`); with
    `rect: True` in `train` they have Ultralytics' shapes of batches instead.

    `slimming` is the weight of the L1 penalty on batch-norm scales (sparsity training before `bn_gamma` pruning:
    network slimming, Liu et al., ICCV 2017, arXiv 1708.06519); 0 is none, 1e-4 to 1e-2 are usual.

    `spend` "need" gives a network that lost nothing no epoch and one that lost much more than `epochs`
    (`pruning.recovery.repair.needed_epochs`); "equal" gives each the same. `reconstruct`: layers are solved for before
    (reconstruction.py).
    """

    epochs: float = 1
    spend: Spend = "equal"
    reconstruct: bool = True
    fraction: float = 1.0
    distill: bool = True
    imgsz: Size = 640
    batch: int = 16
    device: str = "cpu"
    seed: int = 0
    slimming: float = 0.0
    train: Mapping[str, Any] = field(default_factory=dict)


class KeepsArchitecture(_Trainer):
    """Mixin for an Ultralytics trainer: trains the given module instead of one rebuilt from its YAML.

    Use as `YOLO(path).train(trainer=trainer_for("detect"))`. Raises GrewBackError if the parameter count changes.
    """

    expected_parameters: int = 0

    def get_model(self, cfg: Any = None, weights: nn.Module | None = None, verbose: bool = True) -> nn.Module:
        """Return the loaded module, ready to train."""
        if not isinstance(weights, nn.Module):
            raise RecoveryError("a pruned model is trained from its checkpoint: YOLO('pruned.pt').train(trainer=...)")
        self._check_classes(weights)
        model: Any = weights.float()
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        for module in model.modules() if getattr(self.args, "dropout", 0.0) else ():
            if isinstance(module, nn.Dropout):
                module.p = self.args.dropout
        self.expected_parameters = count_parameters(model)
        return model  # type: ignore[no-any-return]

    def _check_classes(self, model: nn.Module) -> None:
        names = getattr(model, "names", None)
        classes = self.data.get("nc")
        if names is not None and classes is not None and len(names) != int(classes):
            raise RecoveryError(
                f"the model has {len(names)} classes, the data set {classes}: give the data it was trained on"
            )

    def _setup_train(self, *world_size: int) -> None:  # the number of GPUs, which older releases hand over
        if not self.expected_parameters and isinstance(self.model, nn.Module):  # in the processes of several GPUs
            self.expected_parameters = count_parameters(student_of(self.model))
        super()._setup_train(*world_size)
        check_parameters(student_of(self.model), self.expected_parameters)

    def final_eval(self) -> None:
        """Count the parameters of the EMA model, then run Ultralytics' final validation."""
        if self.ema is not None:
            check_parameters(student_of(self.ema.ema), self.expected_parameters)
        super().final_eval()


class ShortRun(_Trainer):
    """Mixin for a fine-tune whose only result is the module in memory; writes no files.

    The learning rate falls linearly to zero over the steps of the run; a NaN or infinite loss ends it. With
    `fitness_of` every epoch is scored by it, the best one is kept in `best_epoch` and handed to `on_best`, and in a
    long run `cool_down` decides when the rate falls.
    """

    steps_taken: int = 0
    damage: float | None = None
    rate_given: bool = False
    held_out: frozenset[str] = frozenset()
    slimming: float = 0.0
    masks: WeightMasks | None = None
    on_progress: Callable[[float], None] | None = None
    fitness_of: Callable[[nn.Module], float] | None = None
    correct_statistics: Callable[[nn.Module], None] | None = None
    best_epoch: tuple[float, nn.Module] | None = None
    on_best: Callable[[nn.Module], None] | None = None
    asked_batch: int | None = None
    rectangle: tuple[int, int] | None = None
    cool_down: CoolDown | None = None

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """Build Ultralytics' data set without the held-out training images, of inputs of the size that is asked for."""
        dataset = super().build_dataset(img_path, mode, batch)
        if mode == "train" and self.rectangle is not None and not self.args.rect:
            give_rectangles(dataset, *self.rectangle)
        return TrainingSubset(dataset, self.held_out) if mode == "train" and self.held_out else dataset

    def _build_train_pipeline(self) -> None:
        """Prepare loaders and optimizer: at the start, and again where Ultralytics ran out of memory."""
        super()._build_train_pipeline()
        if self.asked_batch not in (None, self.batch_size) and self.fitness_of is None:
            raise RecoveryError(
                f"out of memory: Ultralytics halved the batch from {self.asked_batch} to {self.batch_size}, so this "
                f"run is not comparable. Set recover.batch={self.batch_size} for the whole study."
            )

    def _setup_train(self, *world_size: int) -> None:
        super()._setup_train(*world_size)
        student: Any = student_of(self.model)
        student.criterion = trained_criterion(student)
        mixed = in_bfloat16(self.args.amp, self.device)
        if mixed:
            self.model.to(memory_format=torch.channels_last)
        if isinstance(self.model, DistillationModel):
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                fit_projectors(self.model, (batch["img"] for batch in self.first_batches(FITTED_IMAGES)))
            self.train_loader.reset()  # it goes on where it was left: the first epoch would lack these images
        if self.damage is not None:
            least, most = (LR_RANGE[0] if self.cool_down is None else FULL_RUN_RATE), LR_RANGE[1]
            rate = float(np.clip(LR_PER_DAMAGE * self.damage, least, most))
            for group in () if self.rate_given else self.optimizer.param_groups:
                group["lr"] = group["initial_lr"] = rate
            for norm in norms_of(student) if self.cool_down is None else ():
                norm.momentum = min(1.0, self.damage / FULL_DAMAGE) * (norm.momentum or 0.0)

    def first_batches(self, images: int) -> Iterator[Any]:
        """Yield augmented training batches of `images` images in all, ready for the model."""
        count = -(-images // self.train_loader.batch_size)
        return map(self.preprocess_batch, itertools.islice(self.train_loader, count))

    def validate(self) -> tuple[dict[str, float], float]:
        """Return the fitness of the EMA network if requested; the caller measures the result of a short run."""
        if self.fitness_of is None:
            return {}, 0.0
        best = -math.inf if self.best_epoch is None else self.best_epoch[0]
        fitness, network = self._scored(best)
        if fitness > best:
            self.best_epoch = (fitness, network)
            if self.on_best is not None:
                self.on_best(network)
        if self.cool_down is not None:
            self.epochs = self.cool_down.length(fitness, self.epochs)
        return {}, fitness

    def _scored(self, best: float) -> tuple[float, nn.Module]:
        """Return the EMA network and its fitness, with corrected statistics where its own are not better than `best`.

        At a high rate the running averages lag behind the weights for epochs; the figure would be theirs.
        """
        assert self.fitness_of is not None
        network = detached_network(self)
        fitness = self.fitness_of(network)
        if self.correct_statistics is None or -math.inf < best < fitness:
            return fitness, network
        corrected = copy.deepcopy(network)
        self.correct_statistics(corrected)
        return max((fitness, network), (self.fitness_of(corrected), corrected), key=lambda scored: scored[0])

    def save_model(self) -> bool:
        """Write nothing."""
        return False

    def save_metrics(self, metrics: Any) -> None:
        """Write nothing."""

    def final_eval(self) -> None:
        """Do nothing: there is no file to validate."""

    def optimizer_step(self) -> None:
        """Take one step at the learning rate of its position in the run."""
        if not bool(torch.isfinite(self.loss).all()):
            raise DivergedError(
                f"the loss became {float(self.loss.detach())} at step {self.steps_taken}: lower recover.lr0"
            )
        total = max(1, len(self.train_loader) * self.epochs // self.accumulate)
        schedule = linear_decay if self.cool_down is None else self.cool_down.share
        share = schedule(self.steps_taken, total)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * share
        if self.slimming:
            self._shrink_scales()
        super().optimizer_step()
        if self.masks is not None:
            self.masks.enforce(student_of(self.model))
        self.steps_taken += 1
        if self.on_progress is not None:
            self.on_progress(min(1.0, self.steps_taken / total))

    def _shrink_scales(self) -> None:
        """Add the gradient of slimming * |scale| of every batch norm (times the loss scale of the backward pass)."""
        factor = self.slimming * float(self.scaler.get_scale())
        for module in student_of(self.model).modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.weight.grad is not None:
                module.weight.grad.add_(module.weight.detach().sign(), alpha=factor)


class PrunedDetectionTrainer(KeepsArchitecture, DetectionTrainer):  # type: ignore[misc]
    """Detection trainer that keeps the architecture."""


class PrunedSegmentationTrainer(KeepsArchitecture, SegmentationTrainer):  # type: ignore[misc]
    """Instance segmentation trainer that keeps the architecture."""


class PrunedPoseTrainer(KeepsArchitecture, PoseTrainer):  # type: ignore[misc]
    """Pose trainer that keeps the architecture."""


class PrunedOBBTrainer(KeepsArchitecture, OBBTrainer):  # type: ignore[misc]
    """Oriented boxes trainer that keeps the architecture."""


class PrunedClassificationTrainer(KeepsArchitecture, ClassificationTrainer):  # type: ignore[misc]
    """Classification trainer that keeps the architecture."""


class PrunedRTDETRTrainer(KeepsArchitecture, RTDETRTrainer):  # type: ignore[misc]
    """RT-DETR trainer that keeps the architecture."""


TRAINERS: Mapping[str, type[Any]] = {
    "detect": PrunedDetectionTrainer,
    "segment": PrunedSegmentationTrainer,
    "pose": PrunedPoseTrainer,
    "obb": PrunedOBBTrainer,
    "classify": PrunedClassificationTrainer,
}


def trainer_for(task: str) -> type[Any]:
    """Return the trainer class that keeps a pruned module, for `YOLO.train(trainer=...)`. Raises RecoveryError."""
    if task not in TRAINERS:
        raise RecoveryError(f"task {task!r}: fine-tuning is known for {', '.join(TRAINERS)}")
    return TRAINERS[task]


def trainer_of(model: nn.Module) -> type[Any]:
    """Return the trainer class of a model's own class and task. Raises RecoveryError for models trained with texts."""
    if isinstance(model, (WorldModel, YOLOEModel)):
        raise RecoveryError(
            f"{type(model).__name__} is trained with a text for every class, so it can be pruned (paretoprune prune) "
            f"but not fine-tuned here: train the pruned file with its own trainer"
        )
    if isinstance(model, RTDETRDetectionModel):
        return PrunedRTDETRTrainer
    return trainer_for(str(getattr(model, "task", "detect")))


def student_of(model: nn.Module) -> nn.Module:
    """Return the trained network without the wrappers of several GPUs and of distillation."""
    plain = unwrap_model(model)
    student: nn.Module = plain.student_model if isinstance(plain, DistillationModel) else plain
    return student


def check_parameters(model: nn.Module, expected: int) -> None:
    """Raise GrewBackError unless `model` has `expected` parameters."""
    found = count_parameters(model)
    if found != expected:
        raise GrewBackError(f"the model had {expected:,} parameters before training and {found:,} after: it grew back")


def recover(
    model: nn.Module,
    data: str | Path,
    recovery: Recovery,
    *,
    base: Path | None = None,
    damage: float | None = None,
    held_out: frozenset[str] = frozenset(),
    masks: WeightMasks | None = None,
    work_dir: Path,
    on_progress: Callable[[float], None] | None = None,
    fitness: Callable[[nn.Module], float] | None = None,
    correct_statistics: Callable[[nn.Module], None] | None = None,
    on_best: Callable[[nn.Module], None] = lambda network: None,
) -> nn.Module:
    """Fine-tune `model`, in place.

    Args:
        base: the unpruned checkpoint: the teacher if `recovery.distill` is set and the task allows it.
        damage: relative rise of the loss over the base's; sets the learning rate unless `recovery.train` has `lr0`.
        held_out: files of training images to leave out.
        masks: weights that stay exactly zero.
        work_dir: receives Ultralytics' own files.
        fitness: scores every epoch (more is better); the best epoch is the result, and a run of more than
            `patience` epochs (of `recovery.train`; default: rate_schedule.PATIENCE) keeps its rate until so many bring
            no better one, then cools down (0: only at the end). Without it the last epoch is. A loss that is no number
            ends such a run with its best epoch.
        correct_statistics: corrects batch norms in place; tried on epochs whose own are no better than the best.
        on_best: called with the network of every epoch that `fitness` finds better than those before.

    Raises GrewBackError, DivergedError, RecoveryError.
    """
    parameters, momenta = count_parameters(model), [norm.momentum for norm in norms_of(model)]
    # A class name without "Trainer" keeps experiment trackers (wandb, mlflow, ray, ...) out of every trial.
    short = type("ShortRun", (ShortRun, trainer_of(model)), {})
    settings = settings_for(model, data, recovery, base, work_dir)
    patience = int(settings.pop("patience", PATIENCE)) or math.inf
    if fitness is not None:
        settings |= {"val": True, "patience": 0}  # ours cools down, Ultralytics' would end at the full rate
    with quiet():
        trainer = short(overrides=settings)
        trainer.on_progress, trainer.fitness_of = on_progress, fitness
        # a shorter one has no time to rest
        if fitness is not None and recovery.epochs > (patience if patience < math.inf else PATIENCE):
            trainer.cool_down = CoolDown(patience)
        trainer.asked_batch, trainer.on_best = recovery.batch, on_best
        trainer.rectangle = None if isinstance(recovery.imgsz, int) else recovery.imgsz
        trainer.correct_statistics = correct_statistics
        trainer.slimming, trainer.masks, trainer.held_out = recovery.slimming, masks, held_out
        trainer.damage, trainer.rate_given = damage, "lr0" in recovery.train
        trainer.model = trainer.get_model(weights=model)
        try:
            with bfloat16_in(trainer):
                trainer.train()
        except DivergedError as error:
            if trainer.best_epoch is None:
                raise
            _log.warning("%s; the best epoch so far is the result", error)
    result = detached_network(trainer) if trainer.best_epoch is None else trainer.best_epoch[1]
    check_parameters(result, parameters)
    for norm, momentum in zip(norms_of(result), momenta, strict=True):
        norm.momentum = momentum
    if not all(bool(torch.isfinite(p).all()) for p in result.parameters()):
        raise DivergedError("the fine-tuned weights are not finite: lower recover.lr0")
    return result


def norms_of(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return the batch norms in network order; none if they are fused."""
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def paced(batches: Iterable[Any], beat: Callable[[], None] | None) -> Iterator[Any]:
    """Yield the same batches, calling `beat` before each."""
    for batch in batches:
        if beat is not None:
            beat()
        yield batch


def detached_network(trainer: Any) -> nn.Module:
    """Copy a trainer's EMA network: float32, evaluation mode, on the CPU."""
    network = copy.deepcopy(student_of(trainer.ema.ema))
    result = without_feature_hooks(network).to(memory_format=torch.contiguous_format).float().cpu().eval()
    result.__dict__.pop("class_weights", None)  # of the training's loss, not of the network
    if trainer.masks is not None:
        trainer.masks.enforce(result)  # the running average began before the first mask was put back
    return result


def in_bfloat16(amp: Any, device: torch.device) -> bool:
    """Decide whether to train in bfloat16: on CPUs with AMX it halves the time at the same accuracy.

    Ultralytics' mixed precision is for GPUs; `recover.amp=fp32` disables this one, too.
    """
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and amp not in ("fp32", False) and bool(capabilities.get("amx_bf16"))


@contextlib.contextmanager
def bfloat16_in(trainer: Any) -> Iterator[None]:
    """Run a trainer's steps in bfloat16 where `in_bfloat16` allows it: Ultralytics' autocast refuses it on a CPU.

    One autocast context per step, since a context caches the converted weights until it exits.
    """
    module: Any = engine_trainer
    before = module.autocast
    if in_bfloat16(trainer.args.amp, trainer.device):
        module.autocast = lambda *_, **__: torch.autocast("cpu", torch.bfloat16)
    try:
        yield
    finally:
        module.autocast = before


def data_trainer(model: nn.Module, data: str | Path, recovery: Recovery, work_dir: Path) -> Any:
    """Return a trainer that only prepares the batches of `model`'s task and provides loss weights and device."""
    # A class name without "Trainer": see `recover`. What Ultralytics seeds and switches for all of PyTorch is put back.
    source = type("DataSource", (trainer_of(model),), {})
    with quiet(), torch.random.fork_rng():
        trainer: Any = source(overrides=settings_for(model, data, recovery, None, work_dir))
        trainer.model = trainer.get_model(weights=model)
        unset_deterministic()
    trainer.args.multi_scale = 0.0
    if not isinstance(recovery.imgsz, int):  # data sets take two sides, where nothing is trained
        trainer.args.imgsz = list(recovery.imgsz)
    return trainer


def settings_for(
    model: nn.Module, data: str | Path, recovery: Recovery, base: Path | None, work_dir: Path
) -> dict[str, Any]:
    """Return the keys of YOLO.train for a short fine-tune: the base's own, then RECIPE, then the user's."""
    task = str(getattr(model, "task", "detect"))
    settings = {
        **known_settings({**inherited_from(model), **RECIPE}),
        "nbs": recovery.batch,
        "task": task,
        "mode": "train",
        "model": "pruned.pt",  # never read: the module is handed over
        "data": str(data),
        "epochs": max(1, recovery.epochs),  # of a trainer that only prepares batches it is 0
        "fraction": recovery.fraction,
        "imgsz": max(sides(recovery.imgsz)),
        "batch": recovery.batch,
        "device": recovery.device,
        "seed": recovery.seed,
        "project": str(work_dir),
        "name": "recover",
        "exist_ok": True,
        "plots": False,
        "val": False,
        "save": False,
        "verbose": False,
        "workers": 0,
        "amp": recovery.device != "mps",
        **recovery.train,
    }
    teachable = can_distill and task in DISTILLABLE and not isinstance(model, RTDETRDetectionModel)
    if recovery.distill and base is not None and teachable:
        settings["distill_model"] = str(teacher_of(model, base, work_dir))
    return settings


def inherited_from(model: nn.Module) -> dict[str, Any]:
    """Return the keys of YOLO.train with which a model was trained and which another training keeps."""
    arguments = getattr(model, "args", None)
    trained = dict(arguments) if isinstance(arguments, Mapping) else dict(vars(arguments)) if arguments else {}
    return {
        key: trained[key]
        for key in INHERITED
        if trained.get(key) is not None or (key == "auto_augment" and key in trained)  # the one that may be null
    }


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress Ultralytics' progress bars and notes on the terminal; warnings stay in its log."""
    logger = logging.getLogger("ultralytics")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), without_bars():
            yield
    finally:
        logger.setLevel(level)
