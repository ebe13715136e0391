"""Learning rate of a fine-tune, as a share of its first rate.

A short run of fixed length falls linearly to zero over its steps, which is the best schedule for a fixed budget (Li,
Yumer and Ramanan, ICLR 2020, arXiv 1905.04753). A long run that is judged epoch by epoch need not know its length: the
rate is constant until the figure rests, then falls linearly to zero (Hägele et al., NeurIPS 2024, arXiv 2405.18392).
"""

from __future__ import annotations

import math

PATIENCE = 10
"""Epochs without a better figure after which the cool-down begins."""
COOL_DOWN_SHARE = 0.25
"""Epochs of the cool-down as a share of those before it."""


class CoolDown:
    """Constant until `patience` epochs bring no better figure, then linear to zero."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.patience = patience
        self._best = -math.inf
        self._done = 0
        self._since_best = 0
        self._begins = False
        self._first_step: int | None = None

    def length(self, figure: float, epochs: int) -> int:
        """Return the epochs of the whole run, `epochs` so far, after one with this figure (more is better)."""
        self._done += 1
        self._since_best = 0 if figure > self._best else self._since_best + 1
        self._best = max(self._best, figure)
        needed = max(1, math.ceil(COOL_DOWN_SHARE * self._done))
        if self._begins or (self._since_best < self.patience and epochs - self._done > needed):
            return epochs
        self._begins = True
        return min(epochs, self._done + needed)

    def share(self, step: int, steps: int) -> float:
        """Return the share of the first rate at `step`, counted from 0 over a run of `steps`; asked step by step."""
        if not self._begins:
            return 1.0
        self._first_step = step if self._first_step is None else self._first_step
        return linear_decay(step - self._first_step, steps - self._first_step)


def linear_decay(step: int, steps: int) -> float:
    """Return 1 at step 0, falling linearly over `steps`, and never quite 0."""
    total = max(1, steps)
    return 1.0 - min(step, total - 1) / total
