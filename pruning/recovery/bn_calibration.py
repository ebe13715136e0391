"""Batch-norm statistics of a pruned network, without any training.

Removing channels changes what every later layer sees, so the running mean and variance of the base are wrong for the
pruned network. Measuring them anew on a few hundred images (EagleEye, Li et al., ECCV 2020, arXiv 2007.02491) repairs
that and breaks something else: the weights were trained on augmented batches, whose statistics are others than those of
clean images. An unpruned network can lose a seventh of its accuracy by it (docs/recovery.md).

So statistics are corrected by difference. Base and pruned network see the same images, and every channel that is left
is shifted and scaled so that it leaves its norm with the mean and variance that it has in the base (as REPAIR does for
interpolated networks: Jordan et al., ICLR 2023, arXiv 2211.08403). Where nothing was pruned nothing changes, exactly.
"""

from __future__ import annotations

import copy
import itertools
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from ultralytics.data.augment import LetterBox

from pruning.errors import RecoveryError
from pruning.plan import Plan
from pruning.recovery.images import Size, checked_data, letterboxed, sides, split_files

_log = logging.getLogger(__name__)
_Norm = nn.modules.batchnorm._BatchNorm

LEAST_VARIANCE = 1e-6
"""Added to both variances before they are compared: of a channel that is silent in both networks nothing is known."""
LARGEST_SCALE = 1e2
"""Bound of a variance's change: a channel that hardly spoke in the base says nothing reliable about its scale."""


Moments = tuple[Tensor, Tensor]
"""(C,) mean and variance of what goes into a norm."""


class BaseMoments:
    """Inputs of every norm of a base network, per batch and call; measured once for any number of plans."""

    def __init__(self, base: nn.Module, batches: Iterable[Tensor], device: torch.device | None = None) -> None:
        """Run `base` on `batches` ((B, C, H, W), 0 to 1), which are kept, on `device` or where it is."""
        self.batches: list[Tensor] = []
        self.moments: list[dict[str, list[Moments]]] = []
        self.marked = copy.deepcopy(base)
        self.names = list(_norms(self.marked))
        self.statistics = {name: _statistics(norm) for name, norm in _norms(base).items()}
        for number, norm in enumerate(_norms(self.marked).values()):
            mean, variance = _statistics(norm)
            mean.copy_(torch.arange(len(mean)))
            variance.fill_(number)
        self.device, was_training = device or next(base.parameters()).device, base.training
        base.eval()
        try:
            with moved(base, self.device):
                for batch in batches:
                    self.batches.append(batch)  # not on the device, whose memory the fine-tune will need
                    self.moments.append(_recorded(base, batch.to(self.device)))
        finally:
            base.train(was_training)

    def origins(self, plan: Plan) -> dict[str, tuple[str, Tensor]]:
        """Map each norm of the pruned network to its name in the base and the base's channels that it keeps.

        The plan is applied to a copy whose statistics encode their positions, since removing blocks renames later ones.
        """
        found = {}
        for name, norm in _norms(plan.apply(self.marked)).items():
            mean, variance = _statistics(norm)
            found[name] = self.names[int(variance[0])], mean.long()
        return found


@torch.no_grad()
def match_statistics(
    small: nn.Module,
    plan: Plan,
    base: BaseMoments,
    beat: Callable[[], None] = lambda: None,
    seen: Callable[[int, Any], None] = lambda number, outputs: None,
) -> None:
    """Correct the batch-norm statistics of `small`, which is `plan.apply` of the base or was trained from it, in place.

    Its present statistics do not matter. With m, v the mean and variance of a channel before its norm on the batches of
    `base`, in the base (b) and in the pruned network (p), and mu, s^2 the base's own statistics, the pruned network
    gets

        s_p^2 = s^2 v_p / v_b        mu_p = mu + (m_p - m_b) - (m_b - mu) (s_p / s - 1)

    where s^2 includes the norm's epsilon, so that (x - mu_p) / s_p has on these images the mean and variance that it
    has in the base. Layers are corrected in order of execution, each on the outputs of the corrected layers before it.
    An empty plan changes nothing. `beat` is called before every batch, and `seen` after it, with its number and the
    outputs of the network as corrected for this batch.
    """
    with moved(small, base.device):
        _match(small, base.origins(plan), base, beat, seen)


def _match(
    small: nn.Module,
    origins: dict[str, tuple[str, Tensor]],
    base: BaseMoments,
    beat: Callable[[], None],
    seen: Callable[[int, Any], None],
) -> None:
    with corrected_norms(small, origins, base) as expect:
        for number, (batch, moments) in enumerate(zip(base.batches, base.moments, strict=True)):
            expect(moments)
            beat()
            seen(number, small(batch.to(base.device)))


@contextmanager
def corrected_norms(
    small: nn.Module, origins: Mapping[str, tuple[str, Tensor]], base: BaseMoments
) -> Iterator[Callable[[Mapping[str, Sequence[Moments]]], None]]:
    """Let every norm of `small` correct itself before it runs, and keep the mean correction at the end.

    Yields a function that takes the base's moments on a batch, before the batch is run. `small` is in evaluation mode
    meanwhile.
    """
    norms, was_training = _norms(small), small.training
    for name, norm in norms.items():
        origin, channels = origins[name]
        for statistic, own in zip(_statistics(norm), base.statistics[origin], strict=True):
            statistic.copy_(own[channels])
    corrections = {name: _Correction(norm, *origins[name]) for name, norm in norms.items()}
    handles = [norms[name].register_forward_pre_hook(found) for name, found in corrections.items()]

    def expect(moments: Mapping[str, Sequence[Moments]]) -> None:
        for found in corrections.values():
            found.expected = list(moments.get(found.origin, []))

    small.eval()
    try:
        yield expect
    finally:
        for handle in handles:
            handle.remove()
        small.train(was_training)
        for found in corrections.values():
            found.settle()


@contextmanager
def moved(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Move a network to a device for the duration of the context."""
    home = next(model.parameters()).device
    model.to(device)
    try:
        yield
    finally:
        model.to(home)


@torch.no_grad()
def _recorded(model: nn.Module, batch: Tensor) -> dict[str, list[Moments]]:
    moments: dict[str, list[Moments]] = {}

    def recorder(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda norm, inputs: moments.setdefault(name, []).append(_moments(inputs[0]))

    handles = [norm.register_forward_pre_hook(recorder(name)) for name, norm in _norms(model).items()]
    try:
        model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return moments


def _norms(model: nn.Module) -> dict[str, _Norm]:
    return {name: m for name, m in model.named_modules() if isinstance(m, _Norm) and m.track_running_stats}


def _statistics(norm: _Norm) -> tuple[Tensor, Tensor]:
    """Return running mean and variance. Raises ValueError for a norm that keeps none."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError(f"{norm} keeps no statistics")
    return norm.running_mean, norm.running_var


def _moments(inputs: Tensor) -> Moments:
    variance, mean = torch.var_mean(inputs.float(), dim=[0, *range(2, inputs.dim())], correction=0)
    return mean, variance


class _Correction:
    """Corrects a norm of the pruned network for each batch before it runs, and by the mean over batches at the end.

    Accumulates shifts and log scales, not statistics: these are exactly 0 for a norm that needs no correction.
    """

    def __init__(self, norm: _Norm, origin: str, channels: Tensor) -> None:
        self.norm, self.origin, self.channels = norm, origin, channels
        self.mean, self.variance = _statistics(norm)
        self.expected: list[Moments] = []
        self.shift, self.log_scale = torch.zeros_like(self.mean), torch.zeros_like(self.mean)
        self.samples = 0

    def __call__(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        expected_mean, expected_variance = (moment[self.channels] for moment in self.expected.pop(0))
        mean, variance = _moments(inputs[0])
        ratio = (variance + LEAST_VARIANCE) / (expected_variance + LEAST_VARIANCE)
        ratio = ratio.clamp(1 / LARGEST_SCALE, LARGEST_SCALE)
        shift = (mean - expected_mean) - (expected_mean - self.mean) * (ratio.sqrt() - 1)
        weight = len(inputs[0])
        self.shift, self.log_scale = self.shift + weight * shift, self.log_scale + weight * ratio.log()
        self.samples += weight
        self.norm.running_mean, self.norm.running_var = self.mean + shift, self._scaled(ratio - 1)

    def settle(self) -> None:
        """Store the mean correction in the norm."""
        self.norm.running_mean, self.norm.running_var = self.mean, self.variance
        if self.samples:
            self.mean.add_(self.shift / self.samples)
            self.variance.copy_(self._scaled(torch.expm1(self.log_scale / self.samples)))

    def _scaled(self, change: Tensor) -> Tensor:
        """Return the variance after var + eps grew by the share `change`; bitwise unchanged for 0."""
        return (self.variance + (self.variance + self.norm.eps) * change).clamp_min(0.0)


def measure_statistics(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace all batch-norm statistics of `model` by averages over `batches` ((B, C, H, W), 0 to 1), in place.

    For a network without a base, such as one with random weights; for a pruned network use `match_statistics`.
    """
    norms = list(_norms(model).values())
    momenta = [norm.momentum for norm in norms]
    was_training = model.training
    device = next(model.parameters()).device
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average over all batches
        norm.train()
    try:
        with torch.no_grad():
            for batch in batches:
                model(batch.to(device))
    finally:
        model.train(was_training)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def calibration_batches(
    data: str | Path,
    imgsz: Size,
    count: int = 256,
    batch: int = 32,
    task: str = "detect",
    seed: int = 0,
    without: Collection[str] = (),
) -> Iterator[Tensor]:
    """Yield `count` training images, chosen by `seed`, letterboxed to (B, C, height, width), 0 to 1.

    None of the files `without`, which judge what is made of the others, unless there are no others.

    C is what the data set says, 3 (RGB) unless it says otherwise. Images that cannot be read are skipped and named in a
    warning, as Ultralytics' own training does; the next ones in the order of `seed` take their place. Raises
    RecoveryError if the data set has no training image that can be read.
    """
    said = checked_data(data, task)
    files, channels = split_files(said, "train", task), int(said["channels"])
    order = [int(index) for index in np.random.default_rng(seed).permutation(len(files))]
    judging = {os.path.abspath(file) for file in without}
    order = [index for index in order if os.path.abspath(files[index]) not in judging] or order
    fit = LetterBox(sides(imgsz), auto=False)
    images = itertools.islice(_readable((files[i] for i in order), fit, channels), count)
    first = True
    while part := list(itertools.islice(images, batch)):
        if len(part) > 1 or first:  # a last batch of one image has no useful statistics
            yield torch.stack(part)
        first = False
    if first:
        raise RecoveryError(f"{data}: no training images to calibrate on")


def _readable(files: Iterable[str], fit: LetterBox, channels: int) -> Iterator[Tensor]:
    for file in files:
        image = letterboxed(file, fit, channels)
        if image is None:
            _log.warning("%s: not an image that OpenCV can read; left out", file)
            continue
        yield torch.from_numpy(image).float() / 255
