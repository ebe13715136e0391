r"""How long is one candidate, from ratios to a ready module, and what else does the pruner cost?

    python -m pip install torch-pruning==1.6.1     # the peer; without it only our own figures are printed
    OMP_NUM_THREADS=1 python benchmarks/pruner_speed.py --json speed.json

A round times every contender once, in an order that turns from round to round, so that a busy machine disturbs all of
them alike; the ratio is taken inside each round. Random weights, one thread, every free group at 0.3 in steps of 8.

ours        ratios -> plan -> pruned module, from a traced graph with cached scores (what a search repeats)
peer 640    Torch-Pruning: copy the module, build its graph on a picture of 640 px as its YOLOv8 example does, prune by
            L2 (what a search would repeat with it). It may prune what ours may: only the outputs are left out. It
            cannot follow the chunk of C2f, so its model has C2f split into two convolutions beforehand, untimed.
peer 64     the same on a picture of 64 px: the least that it can take
deepcopy    copy.deepcopy of the full module
floor       copying the kept weights, tensor by tensor
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from ultralytics.nn.modules import C2f, Conv, Detect

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pruning import ChannelGraph, Scores, trace
from tests.pruning import zoo

MODELS = ("yolov8n.yaml", "yolov8s.yaml", "yolov8x.yaml")
CANDIDATES = 65_536
RATIO, ROUND_TO = 0.3, 8
GOALS = {"cost() a second": 100_000.0, "memory over the pruned model": 0.2, "trace s": 10.0}
GOALS |= {"peer 640 / ours": 50.0, "peer 64 / ours": 50.0}


class SplitC2f(nn.Module):
    """C2f whose first convolution is two, one for each half of its output: the same function without a chunk."""

    def __init__(self, block: C2f) -> None:
        super().__init__()
        half = block.cv1.conv.out_channels // 2
        self.kept, self.worked = _rows(block.cv1, slice(0, half)), _rows(block.cv1, slice(half, 2 * half))
        self.m, self.cv2 = block.m, block.cv2
        self.i, self.f, self.type = block.i, block.f, block.type  # its place in Ultralytics' list

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W)."""
        parts = [self.kept(x), self.worked(x)]
        for block in self.m:
            parts.append(block(parts[-1]))
        return self.cv2(torch.cat(parts, 1))  # type: ignore[no-any-return]


def _rows(layer: Conv, rows: slice) -> Conv:
    """A Conv with some of the output channels of `layer`."""
    part = copy.deepcopy(layer)
    part.conv.weight = nn.Parameter(layer.conv.weight.detach()[rows].clone())
    part.conv.out_channels = part.bn.num_features = part.conv.weight.shape[0]
    for name, tensor in [*layer.bn.named_parameters(), *layer.bn.named_buffers()]:
        if tensor.dim():
            value = tensor.detach()[rows].clone()
            setattr(part.bn, name, nn.Parameter(value) if isinstance(tensor, nn.Parameter) else value)
    return part


def split_by_hand(model: nn.Module) -> nn.Module:
    """A copy whose C2f blocks are split; raises AssertionError unless it computes the same."""
    twin = copy.deepcopy(model)
    for path, module in list(twin.named_modules()):
        if type(module) is C2f:
            parent, _, name = path.rpartition(".")
            setattr(twin.get_submodule(parent), name, SplitC2f(module))
    with torch.no_grad():
        assert zoo.worst_difference(twin(zoo.picture()), model(zoo.picture())) < 1e-5
    return twin


def peer(model: nn.Module, pixels: int) -> Callable[[], nn.Module] | None:
    """One candidate by Torch-Pruning; None when it is not installed."""
    try:
        import torch_pruning as tp
    except ImportError:
        return None
    source = split_by_hand(model)
    example, importance = torch.zeros(1, 3, pixels, pixels), tp.importance.MagnitudeImportance(p=2)

    def candidate() -> nn.Module:
        twin = copy.deepcopy(source)
        pruner = tp.pruner.MagnitudePruner(
            twin, example, importance=importance, pruning_ratio=RATIO, round_to=ROUND_TO, ignored_layers=outputs(twin)
        )
        pruner.step()
        return twin

    return candidate


def outputs(model: nn.Module) -> list[nn.Module]:
    """The last convolutions of a YOLOv8 head, and its decoding."""
    head: Any = next(module for module in model.modules() if isinstance(module, Detect))
    return [*(branch[-1] for branch in (*head.cv2, *head.cv3)), head.dfl]


def contenders(model: nn.Module, graph: ChannelGraph, scores: Scores) -> dict[str, Callable[[], object]]:
    """What each round times."""
    ratios = {group.name: RATIO for group in graph.free}
    small = graph.plan(ratios, scores, ROUND_TO).apply(model)
    kept = [tensor.detach() for tensor in small.state_dict().values()]
    found: dict[str, Callable[[], object]] = {
        "ours": lambda: graph.plan(ratios, scores, ROUND_TO).apply(model),
        "deepcopy": lambda: copy.deepcopy(model),
        "floor": lambda: [tensor.clone() for tensor in kept],
    }
    others = {f"peer {pixels}": peer(model, pixels) for pixels in (640, 64)}
    return {**found, **{name: work for name, work in others.items() if work}}


def interleaved(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every contender in every round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    order = list(work)
    for number in range(rounds + 1):
        for name in order[number % len(order) :] + order[: number % len(order)]:
            gc.collect()
            began = time.perf_counter()
            result = work[name]()
            elapsed = time.perf_counter() - began
            del result  # taking it down again is not part of making it
            if number:
                seconds[name].append(elapsed)
    return seconds


def candidates_a_second(graph: ChannelGraph, repeats: int = 5) -> float:
    """Cost of a batch of random width vectors: candidates a second, the median of `repeats`."""
    full = graph.table.full_widths()
    widths = np.random.default_rng(0).integers(1, full + 1, (CANDIDATES, len(full)))
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        graph.costs.of_many(widths)
        seconds.append(time.perf_counter() - began)
    return CANDIDATES / statistics.median(seconds)


def peak_bytes(work: Callable[[], nn.Module]) -> tuple[int, int, int]:
    """(peak of tensor memory while `work` runs, bytes of the module it returns, peak of Python's own objects)."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        small = work()
    size = sum(t.numel() * t.element_size() for t in [*small.parameters(), *small.buffers()])
    peak = running = 0
    results: Any = profiler.profiler.kineto_results  # type: ignore[union-attr]
    for event in sorted(results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            running += event.nbytes()
            peak = max(peak, running)
    tracemalloc.start()
    work()
    python = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, size, python


def figures(name: str, rounds: int) -> dict[str, Any]:
    """All figures of one model: times in ms, memory in MB."""
    model = zoo.build(name)
    began = time.perf_counter()
    graph = trace(model, zoo.picture())
    traced = time.perf_counter() - began
    scores = graph.score(model, "l2")
    seconds = interleaved(contenders(model, graph, scores), rounds)
    peak, size, python = peak_bytes(lambda: graph.plan(RATIO, scores, ROUND_TO).apply(model))
    found: dict[str, Any] = {"model": name.removesuffix(".yaml"), "rounds": rounds}
    found |= {f"{contender} ms": statistics.median(times) * 1e3 for contender, times in seconds.items()}
    for other in set(seconds) - {"ours"}:
        ratios = sorted(b / a for a, b in zip(seconds["ours"], seconds[other], strict=True))
        found[f"{other} / ours"] = statistics.median(ratios)
        found[f"{other} / ours, range"] = [ratios[0], ratios[-1]]
    found |= {"cost() a second": candidates_a_second(graph), "trace s": traced}
    found |= {"peak MB": peak / 1e6, "pruned MB": size / 1e6, "Python objects MB": python / 1e6}
    return {**found, "memory over the pruned model": peak / size - 1}


ROWS = (
    *("ours ms", "peer 640 ms", "peer 64 ms", "deepcopy ms", "floor ms"),
    *(f"{other} / ours{tail}" for other in ("peer 640", "peer 64") for tail in ("", ", range")),
    *("deepcopy / ours", "floor / ours", "cost() a second", "trace s", "pruned MB", "peak MB"),
    *("memory over the pruned model", "Python objects MB"),
)


def table(found: list[dict[str, Any]]) -> Iterator[str]:
    """The figures as Markdown, one column for each model."""
    yield f"| | {' | '.join(row['model'] for row in found)} | goal |"
    yield "|---|" + "---:|" * (len(found) + 1)
    for key in ROWS:
        if key in found[0]:
            yield f"| {key} | {' | '.join(_text(row[key]) for row in found)} | {_goal(key)} |"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(map(_text, value))
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _goal(key: str) -> str:
    if key not in GOALS:
        return ""
    return f"at {'least' if GOALS[key] > 20 else 'most'} {_text(GOALS[key])}"


def main() -> None:
    """Measure, print the table, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = [figures(name, options.rounds) for name in options.models]
    print("\n".join(table(found)))
    if "peer 640 ms" not in found[0]:
        print("Torch-Pruning is not installed: python -m pip install torch-pruning==1.6.1")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
