"""A task of one's own, whole: how large is the disc in a noisy 32 x 32 image? A tiny regressor on generated data.

This is what a user writes: a function that builds the trained network, and an object that feeds, repairs and judges it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

SIZE, BATCH = 32, 32
WEIGHTS = Path(__file__).with_name("discs.pt")


class Residual(nn.Module):
    """Two convolutions beside a shortcut: their channels are coupled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.second, self.norm2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.norm2(self.second(torch.relu(self.norm1(self.first(x))))))


class Regressor(nn.Module):
    """Radius of the disc in px, (B, 1)."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.body = nn.Sequential(Residual(width), nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU(), Residual(2 * width))
        self.head = nn.Linear(2 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


def samples(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images (count, 1, 32, 32) and radii (count, 1)."""
    random = torch.Generator().manual_seed(seed)
    radii = 3 + 9 * torch.rand(count, 1, generator=random)
    centres = 12 + 8 * torch.rand(count, 2, generator=random)
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    far = torch.hypot(x - centres[:, 0, None, None], y - centres[:, 1, None, None])
    images = (far < radii[:, :, None]).float() + 0.3 * torch.randn(count, SIZE, SIZE, generator=random)
    return images[:, None], radii


def train(model: nn.Module, epochs: int, seed: int, rate: float, on_progress: Callable[[float], None]) -> nn.Module:
    """Plain training on 512 images an epoch."""
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(model.train().parameters(), lr=rate)
    for epoch in range(epochs):
        images, radii = samples(512, seed=1000 + epoch)
        for start in range(0, len(images), BATCH):
            part = slice(start, start + BATCH)
            optimizer.zero_grad()
            nn.functional.mse_loss(model(images[part]), radii[part]).backward()
            optimizer.step()
        on_progress((epoch + 1) / epochs)
    return model.eval()


def build() -> nn.Module:
    """The trained network."""
    model = Regressor()
    model.load_state_dict(torch.load(WEIGHTS))
    return model


class Task:
    """Mean absolute error of the radius, in px."""

    def batches(self, seed: int) -> Iterator[Tensor]:
        for number in range(8):
            yield samples(BATCH, seed=seed + number)[0]

    def finetune(
        self, model: nn.Module, *, epochs: int, seed: int, device: str, on_progress: Callable[[float], None]
    ) -> nn.Module:
        return train(model, epochs, seed, 1e-3, on_progress)

    def evaluate(self, model: nn.Module, *, device: str) -> dict[str, list[float]]:
        images, radii = samples(256, seed=7)
        return {"mae": (model(images) - radii).abs().ravel().tolist()}


task = Task()

if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)  # of the first weights, too
    torch.save(train(Regressor(), 12, 0, 5e-3, lambda share: None).state_dict(), WEIGHTS)
