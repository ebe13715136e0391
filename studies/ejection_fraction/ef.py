"""The task: ejection fraction of a clip, by ResNet-18 on its frames and the mean over time.

What `paretoprune` is given (see docs/own_task.md): `build`, the trained network, and `Task`, which feeds, trains and
judges it. A clip of T frames is one input (B, 3 T, S, S), pixels 0 to 1; the output is (B, 1), in per cent.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

sys.path.append(str(Path(__file__).resolve().parents[2]))  # the repository
from pruning.recovery.weight_masks import WeightMasks
from studies.ejection_fraction.echonet import Clips, read_clips

FRAMES, SIZE, BATCH = 6, 32, 16
WEIGHTS = Path(__file__).parent / "runs" / "base.pt"
RATE, TUNE_RATE = 1e-3, 3e-4
SPREAD = 20.0
"""Per cent: what the loss is measured in."""


class EFRegressor(nn.Module):
    """ResNet-18 (random weights) on each frame, the mean over time, one linear layer: 11,177,025 parameters.

    The linear layer comes before the mean: the mean of a linear layer is the linear layer of the mean.
    """

    def __init__(self, frames: int = FRAMES) -> None:
        super().__init__()
        self.frames = frames
        self.input_channels = 3 * frames  # what paretoprune reads (docs/own_task.md)
        self.backbone = resnet18(weights=None, num_classes=1)
        nn.init.constant_(self.backbone.fc.bias, 50.0)

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3 T, S, S) -> (B, 1)."""
        frames = clips.reshape(-1, 3, clips.shape[2], clips.shape[3])
        each: Tensor = self.backbone(frames)
        return each.reshape(-1, self.frames).mean(1, keepdim=True)


def untrained() -> nn.Module:
    """The architecture; seeded, so that two processes build the same."""
    torch.manual_seed(0)
    return EFRegressor().eval()


def build() -> nn.Module:
    """The trained network. Raises FileNotFoundError before `experiments.py` has trained it."""
    if not WEIGHTS.is_file():
        raise FileNotFoundError(f"{WEIGHTS}: run python studies/ejection_fraction/experiments.py first; it trains it")
    network = untrained()
    network.load_state_dict(torch.load(WEIGHTS, weights_only=True)["state_dict"])
    return network


def inputs_of(clips: Clips, chosen: slice | np.ndarray) -> Tensor:
    """Clips as the network takes them, (B, 3 T, S, S), grey repeated to three channels."""
    frames = torch.from_numpy(clips.frames[chosen]).float().div_(255)
    b, t, s, _ = frames.shape
    return frames[:, :, None].expand(b, t, 3, s, s).reshape(b, 3 * t, s, s)


def train(
    model: nn.Module,
    clips: Clips,
    *,
    epochs: int,
    seed: int,
    rate: float,
    masks: WeightMasks | None = None,
    on_progress: Callable[[float], None] = lambda share: None,
) -> nn.Module:
    """Adam on the squared error, the rate falling to zero over the run; masked weights are zero after every step."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(model.train().parameters(), lr=rate)
    batches = list(_shuffled(len(clips), epochs, rng))
    for step, chosen in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / len(batches))
        _step(model, optimizer, _flipped(inputs_of(clips, chosen), rng), torch.from_numpy(clips.ef[chosen])[:, None])
        if masks is not None:
            masks.enforce(model)
        on_progress((step + 1) / len(batches))
    return model.eval()


def _shuffled(count: int, epochs: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Which clips each step sees; a last batch that is not full is left out."""
    for _ in range(epochs):
        order = rng.permutation(count)
        yield from (order[start : start + BATCH] for start in range(0, max(1, count - BATCH + 1), BATCH))


def _flipped(inputs: Tensor, rng: np.random.Generator) -> Tensor:
    """Half of the clips mirrored: a heart has no left and right here."""
    which = torch.from_numpy(rng.random(len(inputs)) < 0.5)
    return torch.where(which[:, None, None, None], inputs.flip(3), inputs)


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, ef: Tensor) -> None:
    optimizer.zero_grad()
    loss = ((model(inputs) - ef) / SPREAD).square().mean()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()


def errors(model: nn.Module, clips: Clips) -> list[float]:
    """Absolute error of each clip, in per cent."""
    found = []
    with torch.no_grad():
        for start in range(0, len(clips), BATCH):
            part = slice(start, start + BATCH)
            said = model(inputs_of(clips, part))[:, 0].numpy()
            found += np.abs(said - clips.ef[part]).tolist()
    return found


class Task:
    """What `paretoprune search` calls. `data`: a folder of clips, made by make_clips.py or EchoNet-Dynamic's own."""

    def __init__(self, data: str) -> None:
        self.root = Path(data)
        self._read: dict[str, Clips] = {}

    def clips(self, split: str) -> Clips:
        """A split, read once."""
        if split not in self._read:
            self._read[split] = read_clips(self.root, split, FRAMES, SIZE)
        return self._read[split]

    def batches(self, seed: int) -> Iterator[Tensor]:
        """Training clips in batches."""
        clips = self.clips("train")
        order = np.random.default_rng(seed).permutation(len(clips))
        for start in range(0, len(clips) - BATCH + 1, BATCH):
            yield inputs_of(clips, order[start : start + BATCH])

    def finetune(
        self, model: nn.Module, *, epochs: int, seed: int, device: str, on_progress: Callable[[float], None]
    ) -> nn.Module:
        """The short fine-tune, on the CPU."""
        keys = {"epochs": epochs, "seed": seed, "rate": TUNE_RATE, "on_progress": on_progress}
        return train(model, self.clips("train"), **keys)  # type: ignore[arg-type]

    def evaluate(self, model: nn.Module, *, device: str) -> dict[str, list[float]]:
        """Absolute errors of the validation clips."""
        return {"ef_mae": errors(model, self.clips("val"))}
