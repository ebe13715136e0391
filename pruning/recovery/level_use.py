"""How much each detection level of a network is used: its share of the objects' assignments on training images.

In training every object is assigned to the predictions that fit it best, by class score and overlap, among those whose
centre lies in it (TaskAlignedAssigner; TOOD, Feng et al., ICCV 2021, arXiv 2108.07755). No rule of box sizes says which
level that is, so the network's own assignments are taken, as its loss makes them; of end-to-end heads, which can
predict with either of two branches, the mean of both. Each assignment weighs as much as its target score, which is
about 0 where a prediction does not fit: an object always gets its ten, so a small one also gets cells of coarse levels,
which learn to be silent there. (Counted plainly, P4 had 9 % of a base of studies/digits that loses nothing without it.)
The images are training images as a validator prepares them, not augmented: what counts is where objects land when the
network is deployed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from ultralytics.utils.tal import TaskAlignedAssigner

from pruning.recovery.finetune import Recovery, data_trainer, quiet
from pruning.recovery.images import Size
from pruning.recovery.judge import Floats, evaluation_dataset, input_size, most_images, with_its_loss
from pruning.structure.level_removal import Pyramid, pyramid_of

IDLE = 0.01
"""Share of the assigned scores below which a level is called idle."""
ENOUGH_OBJECTS = 300
"""With fewer, twice as many images are taken."""
BATCH = 16


@dataclass(frozen=True)
class LevelUse:
    """Shares of the assigned target scores by level, finest first, on so many training images and objects."""

    shares: Mapping[str, float]
    images: int
    objects: int

    def idle(self) -> tuple[str, ...]:
        """Return the levels with less than IDLE of the assigned scores."""
        return tuple(name for name, share in self.shares.items() if share < IDLE)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {**self.__dict__, "shares": dict(self.shares), "idle": list(self.idle())}


@dataclass
class AssignedScores:
    """Target scores by level, summed for each branch of a head."""

    pyramid: Pyramid
    branches: dict[int, Floats] = field(default_factory=dict)

    def add(self, branch: int, scores: Tensor) -> None:
        """Add target scores (B, cells of all levels, classes)."""
        cells = self.pyramid.cells_of(scores.shape[1])
        found = np.array([float(piece.sum()) for piece in scores.split(cells, dim=1)])
        self.branches[branch] = self.branches.get(branch, 0.0) + found

    def shares(self) -> dict[str, float] | None:
        """Map level -> share, the mean over the branches; None where nothing was assigned."""
        sums = np.array(list(self.branches.values()))
        if not sums.size or not sums.sum(axis=1).all():
            return None
        shares = (sums / sums.sum(axis=1, keepdims=True)).mean(axis=0)
        return dict(zip(self.pyramid.names, shares.tolist(), strict=True))


@contextmanager
def assigned_scores(pyramid: Pyramid) -> Iterator[AssignedScores]:
    """Sum the target scores of every loss that is computed while inside, of one network with these levels."""
    found = AssignedScores(pyramid)

    def seen(module: nn.Module, _: Any, assigned: Any) -> None:
        if isinstance(module, TaskAlignedAssigner):
            found.add(id(module), assigned[2])

    handle = register_module_forward_hook(seen)
    try:
        yield found
    finally:
        handle.remove()


def level_use(
    model: nn.Module,
    data: str | Path,
    *,
    imgsz: Size,
    device: str,
    work_dir: Path,
    beat: Callable[[], None] = lambda: None,
) -> LevelUse | None:
    """Sum the target scores of an Ultralytics network by level; None without such a head, or without objects.

    Args:
        data: what Ultralytics is given; only its training images are used.
        imgsz: in pixels: objects land on other levels at other sizes.
        work_dir: receives Ultralytics' own files.
        beat: called before every batch.
    """
    pyramid = pyramid_of(model)
    if pyramid is None:
        return None
    trainer = data_trainer(model, data, Recovery(imgsz=imgsz, batch=BATCH, device=device), work_dir)
    images, objects = 0, 0
    with with_its_loss(model, trainer) as subject, assigned_scores(pyramid) as scores:
        for batch in _batches(trainer):
            if images >= most_images(imgsz) and objects >= ENOUGH_OBJECTS:
                break
            beat()
            subject.loss(ready := trainer.preprocess_batch(batch))
            images, objects = images + len(ready["img"]), objects + len(ready["cls"])
    shares = scores.shares()
    return None if shares is None else LevelUse(shares, images, objects)


def _batches(trainer: Any) -> Iterator[dict[str, Any]]:
    """Yield batches of training images, in the same order every time."""
    with quiet():
        dataset = evaluation_dataset(trainer)
    order = np.random.default_rng(0).permutation(len(dataset))[: 2 * most_images(input_size(trainer))]
    for start in range(0, len(order), BATCH):
        yield dataset.collate_fn([dataset[int(index)] for index in order[start : start + BATCH]])


def share_lost(model: nn.Module, base: nn.Module, losses: Callable[[nn.Module], Floats]) -> tuple[Floats, float]:
    """Return `losses(base)`, and the share of the base's assigned scores on levels that `model` lacks, 0 to 1.

    A loss does not show that a level is gone: an object with no prediction nearby asks for nothing.
    """
    theirs, own = pyramid_of(base), pyramid_of(model)
    lacking = () if theirs is None or own is None else tuple(name for name in theirs.names if name not in own.names)
    if theirs is None or not lacking:
        return losses(base), 0.0
    with assigned_scores(theirs) as scores:
        found = losses(base)
    return found, sum((scores.shares() or {}).get(name, 0.0) for name in lacking)
