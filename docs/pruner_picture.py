"""Draws docs/img/groups.png, the coupled channels of a C2f block, from a real trace: `python docs/pruner_picture.py`.

The colours of every layer's inputs and outputs are read off the group table; only the places of the boxes are drawn by
hand. Heights are numbers of channels.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path as Curve

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pruning import ChannelGraph, trace

BLOCK = "model.4"
COLOURS = ("#8a94a6", "#2a9d63", "#e8891d", "#8e5bd0", "#d1495b", "#2f7fd1")
INK, FAINT, PAPER = "#1d2733", "#5b6776", "#ffffff"
UNIT = 1 / 64  # height of a channel
STRIP, WIDE = 0.13, 1.2
LEFT, RIGHT, TOP, BOTTOM = -1.1, 13.9, -0.75, 5.5
POINTS = 62.0
"""Points of a unit of the drawing: the figure is as large as its axes need."""


@dataclass(frozen=True)
class Layer:
    """A convolution: its centre, and the groups of its inputs and outputs as (group number, channels) runs."""

    name: str
    x: float
    y: float
    inputs: tuple[tuple[int, int], ...]
    outputs: tuple[tuple[int, int], ...]


def runs(graph: ChannelGraph, slot: tuple[str, int]) -> tuple[tuple[int, int], ...]:
    """(group, channels) along a dimension of a weight, in the order of its indices."""
    group_of_unit = np.repeat(np.arange(len(graph.groups)), np.diff(graph.table.starts))
    places = graph.table.slots[slot]
    found: list[tuple[int, int]] = []
    for group, same in groupby(zip(group_of_unit[places].tolist(), places.tolist(), strict=True), key=lambda p: p[0]):
        size = graph.groups[group].size
        total = len(list(same))
        found += [(group, min(size, total))] * max(1, total // size)  # one run for each tensor that is joined
    return tuple(found)


def layers(graph: ChannelGraph) -> dict[str, Layer]:
    """The convolutions of the block, placed from left to right."""
    places = {
        "cv1": (0.0, 1.15), "m.0.cv1": (2.9, 3.0), "m.0.cv2": (4.7, 3.0), "m.1.cv1": (7.7, 3.0),
        "m.1.cv2": (9.5, 3.0), "cv2": (12.0, 1.15),
    }  # fmt: skip
    return {
        name: Layer(
            name, x, y,
            runs(graph, (f"{BLOCK}.{name}.conv.weight", 1)), runs(graph, (f"{BLOCK}.{name}.conv.weight", 0)),
        )
        for name, (x, y) in places.items()
    }  # fmt: skip


class Drawing:
    """Boxes and streams on one pair of axes; `colour` by group number."""

    def __init__(self, axes: Any, graph: ChannelGraph, shown: Sequence[int]) -> None:
        self.axes, self.graph = axes, graph
        self.colour = dict(zip(shown, COLOURS, strict=True))

    def layer(self, layer: Layer) -> None:
        """A box with a coloured strip of inputs on its left and of outputs on its right, heights in channels."""
        tallest = max(sum(n for _, n in side) for side in (layer.inputs, layer.outputs)) * UNIT
        self.axes.add_patch(
            FancyBboxPatch(
                (layer.x + 0.02, layer.y - tallest / 2), WIDE - 0.04, tallest, boxstyle="round,pad=0.05",
                facecolor="#f4f6f9", edgecolor="#c3cbd6", linewidth=1.2, zorder=3,
            )
        )  # fmt: skip
        for side, x in ((layer.inputs, layer.x - STRIP / 2), (layer.outputs, layer.x + WIDE - STRIP / 2)):
            top = layer.y - sum(n for _, n in side) * UNIT / 2
            for group, count in side:
                self.axes.add_patch(
                    Rectangle(
                        (x, top), STRIP, count * UNIT, facecolor=self.colour[group], edgecolor=PAPER,
                        linewidth=1.2, zorder=4,
                    )
                )  # fmt: skip
                top += count * UNIT
        inputs, outputs = (sum(n for _, n in side) for side in (layer.inputs, layer.outputs))
        self.axes.text(
            layer.x + WIDE / 2, layer.y - 0.06, layer.name, ha="center", va="center", fontsize=11.5,
            fontweight="bold", color=INK, zorder=5,
        )  # fmt: skip
        self.axes.text(
            layer.x + WIDE / 2, layer.y + 0.15, f"{inputs} \N{RIGHTWARDS ARROW} {outputs}", ha="center", va="center",
            fontsize=9.5, color=FAINT, zorder=5,
        )  # fmt: skip

    def stream(self, group: int, points: Sequence[tuple[float, float]], channels: int = 32) -> None:
        """A band through the points, as broad as its channels, with soft turns."""
        vertices = _smooth(points)
        codes = [Curve.MOVETO, *[Curve.CURVE4] * (len(vertices) - 1)]
        width = channels * UNIT * 0.84 * POINTS
        self.axes.add_patch(
            PathPatch(
                Curve(vertices, codes), facecolor="none", edgecolor=_pale(self.colour[group]), linewidth=width,
                capstyle="butt", zorder=1,
            )
        )  # fmt: skip

    def plus(self, x: float, y: float) -> None:
        """An addition."""
        self.axes.scatter([x], [y], s=330, color=PAPER, edgecolor=INK, linewidth=1.3, zorder=6)
        self.axes.text(x, y + 0.005, "+", ha="center", va="center", fontsize=14, color=INK, zorder=7)


def _pale(colour: str) -> tuple[float, ...]:
    """The colour on paper at a third of its strength; opaque, so that crossing bands do not darken."""
    return tuple(1 - 0.36 * (1 - value) for value in to_rgb(colour))


def _smooth(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Control points of curves that leave and enter every point horizontally."""
    found = [points[0]]
    for (x0, y0), (x1, y1) in pairwise(points):
        middle = (x0 + x1) / 2
        found += [(middle, y0), (middle, y1), (x1, y1)]
    return found


def streams(drawing: Drawing, found: dict[str, Layer]) -> None:
    """The tensors between the layers; colours are those of the outputs that they leave."""
    cv1, cv2 = found["cv1"], found["cv2"]
    first, second = (group for group, _ in cv1.outputs)
    slots = [cv2.y + (number - 1.5) * 32 * UNIT for number in range(4)]
    upper, lower = cv1.y - 16 * UNIT, cv1.y + 16 * UNIT
    left, right = cv1.x + WIDE, cv2.x
    drawing.stream(cv1.inputs[0][0], [(cv1.x - 1.0, cv1.y), (cv1.x, cv1.y)], 64)
    drawing.stream(cv2.outputs[0][0], [(cv2.x + WIDE, cv2.y), (cv2.x + WIDE + 0.95, cv2.y)], 64)
    drawing.stream(first, [(left, upper), (left + 0.9, slots[0]), (right, slots[0])])
    drawing.stream(second, [(left, lower), (left + 0.9, slots[1]), (right, slots[1])])
    sums = []
    start = (left, lower)
    for number in (0, 1):
        into, out = found[f"m.{number}.cv1"], found[f"m.{number}.cv2"]
        meeting = out.x + WIDE + 0.75
        drawing.stream(second, [start, (into.x, into.y)])
        drawing.stream(into.outputs[0][0], [(into.x + WIDE, into.y), (out.x, out.y)])
        height = slots[number + 2]
        drawing.stream(second, [(out.x + WIDE, out.y), (meeting, height)])
        drawing.stream(second, [start, (start[0] + 0.9, height), (meeting, height)])
        drawing.stream(second, [(meeting, height), (right, height)])
        sums.append((meeting, height))
        start = (meeting, height)
    for x, y in sums:
        drawing.plus(x, y)


def notes(drawing: Drawing, found: dict[str, Layer]) -> None:
    """The tie, the concatenation, and the list of groups."""
    axes, cv1, cv2 = drawing.axes, found["cv1"], found["cv2"]
    axes.annotate(
        "a tie: the halves of the split\nkeep equally many channels,\neach its own choice",
        (cv1.x + WIDE + 0.1, cv1.y - 0.02), (cv1.x - 0.95, cv1.y + 1.55), fontsize=9.5, color=INK, va="center",
        arrowprops={"arrowstyle": "-", "color": FAINT, "connectionstyle": "arc3,rad=-0.25", "linewidth": 1.0},
    )  # fmt: skip
    axes.text(cv2.x - 0.1, cv2.y - 1.12, "concatenated", ha="right", fontsize=9.5, color=FAINT)
    axes.text(
        6.7, 3.75, "what an addition joins is one group: the filters of cv1's second half and of both m.*.cv2,\n"
        "and every input that reads them, go together", fontsize=9.5, color=INK, va="center", ha="center",
    )  # fmt: skip
    for place, group in enumerate(drawing.colour):
        column, row = divmod(place, 3)
        x, y = -0.9 + column * 7.9, 4.45 + row * 0.36
        axes.add_patch(Rectangle((x, y - 0.12), 0.24, 0.24, facecolor=drawing.colour[group], edgecolor="none"))
        axes.text(x + 0.38, y, _described(drawing.graph, group), fontsize=9.5, va="center", color=INK)


def _described(graph: ChannelGraph, number: int) -> str:
    group = graph.groups[number]
    slots = [name for (name, _), units in graph.table.slots.items() if _in(graph, number, units)]
    weights = [name for name in slots if name.endswith("conv.weight")]
    tie = f", tied with {_partner(graph, number)}" if group.tie else ""
    return f"{group.name}: {group.size} channels in {len(weights)} convolutions{tie}"


def _partner(graph: ChannelGraph, number: int) -> str:
    tie = graph.groups[number].tie
    others = [g.name for g in graph.groups if g.tie == tie and g.name != graph.groups[number].name]
    return ", ".join(name.removeprefix(f"{BLOCK}.") for name in others)


def _in(graph: ChannelGraph, number: int, units: Any) -> bool:
    first, last = graph.table.starts[number : number + 2]
    return bool(((units >= first) & (units < last)).any())


def draw(graph: ChannelGraph, out: Path) -> None:
    """Write the picture."""
    found = layers(graph)
    shown = sorted({group for layer in found.values() for group, _ in (*layer.inputs, *layer.outputs)})
    figure = plt.figure(figsize=((RIGHT - LEFT) * POINTS / 72, (BOTTOM - TOP) * POINTS / 72))
    axes = figure.add_axes((0, 0, 1, 1))
    drawing = Drawing(axes, graph, shown)
    streams(drawing, found)
    for layer in found.values():
        drawing.layer(layer)
    notes(drawing, found)
    axes.text(
        LEFT + 0.2, TOP + 0.3, f"{BLOCK} of yolov8n, a C2f block with two bottlenecks: one colour is one group",
        fontsize=14, fontweight="bold", color=INK, va="center",
    )  # fmt: skip
    axes.set_xlim(LEFT, RIGHT)
    axes.set_ylim(BOTTOM, TOP)
    axes.set_axis_off()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=130, facecolor=PAPER)
    plt.close(figure)


def main() -> None:
    """Trace yolov8n and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "img" / "groups.png")
    out = parser.parse_args().out
    from ultralytics.nn.tasks import DetectionModel

    model = DetectionModel("yolov8n.yaml", verbose=False).eval()
    draw(trace(model, torch.zeros(1, 3, 64, 64)), out)
    print(out)


if __name__ == "__main__":
    main()
