"""Every model that we name, pruned four ways and checked: `python benchmarks/zoo.py --out docs/zoo.md`.

A row is traced, planned, cut, compared with its masked twin, counted and trained for one step, with random weights at
64 px. The exit code is 1 when a row fails, so the table cannot show what does not hold. `--only yolo11n yolo26`
runs the rows whose names contain one of the words and prints them.
"""

from __future__ import annotations

import argparse
import copy
import platform
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import ultralytics
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pruning import ChannelGraph, Cost, Plan, trace
from pruning.checkpoints.checkpoint import count_parameters, save_model
from pruning.errors import first_line
from tests.pruning import zoo
from tests.pruning.alone import Alone
from tests.tiny_data import make_tiny_data

MAX_EXPORT_ERROR = 1e-5
TASKS = ("", "-seg", "-pose", "-obb", "-cls")


def max_error(name: str) -> tuple[float, float]:
    """Largest difference of `apply` and `mask` in float32 and in float64, relative to the output's largest value.

    RT-DETR decodes the 300 highest scores: where two are equal but for rounding, float32 may choose another one.
    """
    return (float("inf") if name.startswith("rtdetr") else 1e-4), 1e-9


def names() -> tuple[str, ...]:
    """The rows: a small and a larger size of every family, in every task that it has."""
    sized = {
        **{family: ("",) for family in ("yolov5", "yolov6", "yolov10")},
        "yolov8": (*TASKS, "-p2", "-p6", "-ghost"),
        **{family: TASKS for family in ("yolo11", "yolo12", "yolo26")},
    }
    rows = ["yolov3-tiny"]
    for family, tails in sized.items():
        rows += [f"{family}{size}{tail}" for tail in tails for size in "ns"]
    rows += ["yolov10b", *(f"yolov9{size}" for size in "tsmc"), "yolov9c-seg"]
    rows += ["yolov8n-ghost-p2", "yolov8n-ghost-p6", "yolov8n-seg-p6", "yolov8n-pose-p6", "yolov8n-cls-resnet50"]
    rows += ["yolo11n-cls-resnet18", "yolo26n-p2", "yolo26n-p6", "yolo26n-sem", "yolo26n-depth"]
    rows += ["rtdetr-l", "rtdetr-resnet50"]
    plain = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small")
    plain += ("resnext50_32x4d", "regnet_x_400mf", "shufflenet_v2_x1_0")
    return (*(f"{row}.yaml" for row in sorted(rows, key=_family)), *(f"torchvision:{row}" for row in plain))


def _family(row: str) -> tuple[bool, int, str]:
    """RT-DETR last, YOLOs by generation."""
    digits = row.removeprefix("yolo").removeprefix("v")
    number = "".join(letter for letter in digits[:2] if letter.isdigit())
    return row.startswith("rtdetr"), int(number or 0), row


@dataclass(frozen=True)
class Row:
    """What was measured on one model; `fault` says why the row fails, `absent` why it could not be built here."""

    name: str
    trace_seconds: float = 0.0
    params: int = 0
    macs: int = 0
    groups: int = 0
    free: int = 0
    free_mac_share: float = 0.0
    blocks: int = 0
    frozen: str = ""
    worst_float32: float = 0.0
    worst_float64: float = 0.0
    exact: bool = False
    trains: bool = False
    alone: str = ""
    fault: str = ""
    absent: str = ""


def plans(graph: ChannelGraph) -> dict[str, Plan]:
    """The plans of a row: four, and one without half of the heads where attention can lose whole heads."""
    largest = max(graph.free, key=lambda group: group.size)
    halved = {block: max(1, heads // 2) for block, heads in graph.attention.items()}
    found = {
        "uniform 0.3, round 8": graph.plan(0.3, round_to=8),
        "random vector": graph.plan(zoo.random_ratios(graph, seed=1), importance="random"),
        "extreme 0.9": graph.plan(0.9),
        "one group": graph.plan({largest.name: 0.5}),
    }
    return {**found, "half of the heads": graph.plan(0.2, heads=halved)} if halved else found


def measured(name: str, alone: Alone, folder: Path) -> Row:
    """One row. Never raises: what goes wrong becomes its `fault`."""
    try:
        model = zoo.calibrated(name)
    except URLError:
        return Row(name, absent="needs weights from the network to be built")
    try:
        row, opened = _checked(name, model), opened_alone(name, alone, folder)
        fault = "" if opened in ("yes", "-") else f"alone: {opened}"
        return replace(row, alone=opened, fault="; ".join(filter(None, (row.fault, fault))))
    except Exception as error:  # a row of the table, not a crash of it
        return Row(name, fault=f"{type(error).__name__}: {first_line(error)}"[:160])


def _checked(name: str, model: nn.Module) -> Row:
    began = time.process_time()  # a busy machine does not show
    graph = trace(model, zoo.picture())
    seconds = time.process_time() - began
    faults, errors, exact, double = [], [], True, copy.deepcopy(model).double()
    for kind, plan in plans(graph).items():
        found = difference(model, plan), difference(double, plan)
        same_cost = cost_is_exact(model, plan)
        errors.append(found)
        exact &= same_cost
        for error, bound in zip(found, max_error(name), strict=True):
            faults += [f"{kind}: apply and mask differ by {error:.1e}"] * (not error < bound)
        faults += [f"{kind}: cost() is not exact"] * (not same_cost)
    worst = [max(column) for column in zip(*errors, strict=True)]
    trains = all(trains_a_step(plan.apply(model)) for plan in [*plans(graph).values(), graph.plan(0.5, round_to=4)])
    return Row(
        name, seconds, graph.cost().params, graph.cost().macs, len(graph.groups), len(graph.free),
        graph.free_mac_share(), len(graph.blocks), frozen_in_words(graph), *worst, exact, trains,
        fault="; ".join(faults + ["does not train"] * (not trains)),
    )  # fmt: skip


def opened_alone(name: str, alone: Alone, folder: Path) -> str:
    """Saved, opened in a fresh process, validated, exported: 'yes', why not, or '-' (no such data).

    The model has the two classes of tiny generated data, so that it can be validated.
    """
    if not name.startswith("yolo") or any(word in name for word in ("-sem", "-depth")):
        return "-"
    model, task = zoo.for_tiny_data(name), zoo.task_of(name)
    small = trace(model, zoo.picture()).plan(0.4, round_to=8).apply(model)
    path = folder / f"pruned-{name.replace('.yaml', '.pt')}"  # Ultralytics takes yolov5n.pt for a file to download
    save_model(small, path)
    data = folder / task
    data = data if data.exists() else make_tiny_data(data, task, images=4)
    answer = alone.check(name, path, str(data / "data.yaml" if data.is_dir() and task != "classify" else data))
    if "error" in answer:
        return str(answer["error"])[:120]
    if answer["parameters"] != count_parameters(small):
        return f"{answer['parameters']} parameters, saved {count_parameters(small)}"
    return "yes" if answer["export_error"] < MAX_EXPORT_ERROR else f"export differs by {answer['export_error']:.0e}"


def difference(model: nn.Module, plan: Plan) -> float:
    """Largest difference of the applied and the masked model, relative to each output's largest value."""
    x = zoo.picture().to(next(model.parameters()).dtype)
    with torch.no_grad():
        return zoo.worst_difference(plan.apply(model)(x), plan.mask(model)(x))


def cost_is_exact(model: nn.Module, plan: Plan) -> bool:
    """Does `plan.cost()` equal what is counted on the built model?"""
    small = plan.apply(model)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        small(zoo.picture())
    return plan.cost() == Cost(count_parameters(small), counter.get_total_flops() // 2)


def trains_a_step(small: nn.Module) -> bool:
    """A forward pass in training mode, one step of SGD, and finite outputs afterwards."""
    optimizer = torch.optim.SGD(small.train().parameters(), lr=1e-4)
    losses = [output.float().square().mean() for output in zoo.outputs(small(zoo.picture(batch=2)))]
    before = [parameter.detach().clone() for parameter in small.parameters()]
    torch.stack(losses).sum().backward()
    nn.utils.clip_grad_norm_(small.parameters(), max_norm=10.0)  # as Ultralytics' trainers do
    optimizer.step()
    changed = [not torch.equal(old, new) for old, new in zip(before, small.parameters(), strict=True)]
    with torch.no_grad():
        after = zoo.outputs(small.eval()(zoo.picture()))
    return any(changed) and all(_finite(output) for output in after)


def _finite(output: Tensor) -> bool:
    return bool(torch.isfinite(output).all())


def frozen_in_words(graph: ChannelGraph) -> str:
    """Reasons with the channels of each, the most first, and the operators without a rule."""
    channels: dict[str, int] = defaultdict(int)
    for group in graph.groups:
        if group.frozen is not None:
            channels[_short(group.frozen)] += group.size
    parts = [f"{reason} {count}" for reason, count in sorted(channels.items(), key=lambda item: -item[1])]
    untraced = [name for name in graph.unsupported if name.startswith("untraced")]
    operators = {name.partition(".")[0] for name in graph.unsupported if name not in untraced}
    parts += [f"operators without a rule: {', '.join(sorted(operators))}"] if operators else []
    parts += [f"{len(untraced)} tensors not seen in the trace"] if untraced else []
    return ", ".join(parts)


def _short(reason: str) -> str:
    reason = reason.removeprefix("tied to a frozen group: ").removesuffix(" of the model")
    return reason.replace("operator ", "").replace(" has no rule", "").replace(".default", "")


HEAD = (
    "| model | params M | MACs M | trace s | groups | free | MACs free % | blocks | frozen channels | float32 |"
    " float64 | cost exact | trains | alone |\n|---|---:|---:|---:|---:|---:|---:|---:|---|---:|---:|---|---|---|"
)


def line(row: Row) -> str:
    """One row as Markdown."""
    name = row.name.removesuffix(".yaml").replace("torchvision:", "torchvision ")
    if row.absent or (row.fault and not row.groups):
        return f"| {name} |" + " |" * 7 + f" {row.absent or f'**fails**: {row.fault}'} |" + " |" * 5
    cells = (
        name, f"{row.params / 1e6:.2f}", f"{row.macs / 1e6:.0f}", f"{row.trace_seconds:.1f}",
        row.groups, row.free, f"{int(row.free_mac_share * 1e4) / 100:.2f}", row.blocks, row.frozen,
        f"{row.worst_float32:.0e}", f"{row.worst_float64:.0e}", _yes(row.exact),
        _yes(row.trains), row.alone + (f" **fails**: {row.fault}" if row.fault else ""),
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def _yes(value: bool) -> str:
    return "yes" if value else "**no**"


def document(rows: Iterable[Row], seconds: float) -> str:
    """The page: how it was made, what the columns mean, the table."""
    table = [HEAD, *map(line, rows)]
    return INTRODUCTION.format(machine=machine(), minutes=seconds / 60) + "\n".join(table) + "\n"


def machine() -> str:
    """Processor, cores and versions, in one line."""
    found: dict[str, Any] = {"torch": torch.__version__, "ultralytics": ultralytics.__version__}
    versions = ", ".join(f"{name} {version.partition('+')[0]}" for name, version in found.items())
    return f"{_processor()}, {torch.get_num_threads()} thread(s), Python {platform.python_version()}, {versions}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [text.partition(":")[2].strip() for text in lines if text.startswith("model name")]
    return names[0] if names else platform.machine()


INTRODUCTION = """# The zoo: every model, checked

Written by `make zoo` (`python benchmarks/zoo.py --out docs/zoo.md`) in {minutes:.0f} minutes on {machine}.
Stock architectures with random filters and batch-norm scales at 64 px; the batch norms' statistics are measured, as in
a trained network.

- *params*, *MACs*: of the unpruned model at 64 px. *trace*: processor seconds from module to
  group table.
- *groups*, *free*: coupled channel groups, and those of them that can be pruned. *MACs free*: share of the
  multiply-accumulates in layers that a free group can shrink. *blocks*: residual blocks that can be removed whole.
- *frozen channels*: why, and how many; an operator without a rule is named.
- *float32*, *float64*: largest relative difference between the pruned model (`apply`) and the full model with zeroed
  channels (`mask`), over four plans: uniform 0.3 in steps of 8, a random vector, 0.9 everywhere, one group alone; and
  half of the heads with 0.2 elsewhere, where attention can lose whole heads. A row fails above 1e-4 and 1e-9 (RT-DETR:
  float64 alone, since float32 rounding changes which queries its top-k selects).
- *cost exact*: `plan.cost()` equals counted parameters and `torch.utils.flop_counter` (halved) on the built model, for
  all of them. *trains*: forward in training mode, one optimizer step, finite outputs after it; for all of them.
- *alone*: a pruned model with two classes, saved, opened by plain `YOLO(path)` in a fresh process that has none of this
  project and loads safely: same parameters, predicts, validates, and ONNX Runtime gives what torch gives.

"""


def rows_of(chosen: Iterable[str]) -> Iterator[Row]:
    """One row after another, printed as it is made."""
    with tempfile.TemporaryDirectory() as folder, Alone(Path(folder)) as alone:
        for name in chosen:
            row = measured(name, alone, Path(folder))
            print(line(row), flush=True)
            yield row


def main() -> None:
    """Run the rows, write the page, and fail when a row fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="the Markdown file to write")
    parser.add_argument("--only", nargs="*", help="words: rows whose name contains one of them")
    options = parser.parse_args()
    chosen = [name for name in names() if not options.only or any(word in name for word in options.only)]
    began = time.perf_counter()
    rows = list(rows_of(chosen))
    if options.out:
        options.out.write_text(document(rows, time.perf_counter() - began), encoding="utf-8")
    failed = [row.name for row in rows if row.fault]
    sys.exit(f"{len(failed)} of {len(rows)} rows fail: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
