"""End-to-end latency: a decoded picture in, objects out, timed by the protocol of latencies.

An `EndToEnd` is a runner like any other, so base and candidate are interleaved as in `latency.protocol`. One run
letterboxes and normalises one picture (of a batch: the same picture for each of its places), lets the network compute
it, fetches the outputs, and makes objects of them on the CPU (`pipeline`).

The time of a network does not depend on its weights, but that of non-maximum suppression depends on the number of
boxes, and a pruned network before its fine-tune answers anything. So what is post-processed are the outputs of the
unpruned network for the same picture, whatever the timed one answers: boxes as many as on the validation set. There is
one picture for each opening of a side, at the quantiles of the number of boxes, and rounds compare equal pictures; a
measurement ends when each was used equally often (`whole_turns`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from objectives.errors import LatencyError
from objectives.resources.pipeline import Picture, Pipeline, RawOutputs
from objectives.runtimes.runner import Computes, Conditions, Runner


@dataclass(frozen=True)
class View:
    """A picture, and what the unpruned network answers to it."""

    picture: Picture
    outputs: RawOutputs


class EndToEnd:
    """The whole pass of one opened network on one picture."""

    def __init__(self, network: Runner, pipeline: Pipeline, view: View, *, batch: int, threads: int) -> None:
        if not isinstance(network, Computes):
            raise LatencyError(f"{type(network).__name__} gives no outputs, so its end-to-end latency cannot be timed.")
        self._network: Computes = network
        self._conditions = network.describe()
        self._pipeline, self._threads = pipeline, threads
        self._pictures = [view.picture] * batch
        self._outputs = [part.repeat(batch, *[1] * (part.ndim - 1)) for part in view.outputs]

    def run(self) -> None:
        if torch.get_num_threads() != self._threads:  # global to the process, and others set it too
            torch.set_num_threads(self._threads)
        images = self._pipeline.input_of(self._pictures)
        self._network.outputs(images)
        self._pipeline.objects_of(self._outputs, images, self._pictures)

    def describe(self) -> Conditions:
        return self._conditions


def end_to_end(
    side: Sequence[Runner], pipeline: Pipeline, views: Sequence[View], *, batch: int, threads: int
) -> tuple[EndToEnd, ...]:
    """Return the side with pre- and post-processing: one runner for each view, on the openings in turn.

    Raises:
        LatencyError: a runtime that gives no outputs.
    """
    return tuple(
        EndToEnd(side[place % len(side)], pipeline, view, batch=batch, threads=threads)
        for place, view in enumerate(views)
    )


def typical(counts: Sequence[int], many: int) -> list[int]:
    """Return the places of `many` counts at even quantiles, from the middle outwards; some twice if there are fewer."""
    order = sorted(range(len(counts)), key=lambda place: (counts[place], place))
    quantiles = sorted(range(many), key=lambda place: (abs(place - (many - 1) / 2), place))
    return [order[int((place + 0.5) / many * len(order))] for place in quantiles]
