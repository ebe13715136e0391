r"""Can a latency be trusted? Two independent sweeps over close candidates, and how well their orders agree.

    python studies/digits/make_data.py
    python benchmarks/latency_trust.py --write docs/latency.md            # all of it: about 40 minutes, two cores
    python benchmarks/latency_trust.py --sizes 128 --conditions quiet --seconds 2 --skip-openvino     # a short look

Candidates are uneven pruned plans of one base, in steps of a few per cent of MACs. A sweep runs in a process of its
own, with sessions and an order of its own, and times each candidate as a search does. Beside it, the same seconds per
candidate are spent on a sequential mean (the usual way: warm up, run for a while, divide). Conditions:

    quiet      nothing else runs (see to it: the load that was there is printed)
    workers    on every core a trial of this project trains; trials wait while something is timed
    foreign    on every core another program computes and waits for nobody
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

ROOT = Path(__file__).resolve().parent.parent
STEP = 0.96
"""Each candidate has about this share of the MACs of the one before."""
LARGEST = 0.92
BARS = {"itself": 0.01, "quiet": 0.9, "workers": 0.8, "benchmark_app": 0.8}
"""What is asked for: largest |ratio - 1| of a model against itself, and least Kendall tau."""
MARKS = ("<!-- latency_trust: begin -->", "<!-- latency_trust: end -->")
Sweep = Callable[[Sequence[str], int, float, int], dict[str, dict[str, Any]]]


def make_candidates(model: Path, imgsz: int, count: int, folder: Path) -> list[Path]:
    """base.onnx and `count` uneven pruned plans in steps of MACs, as ONNX files: the first is the base."""
    import torch

    from objectives.runtimes.open import export_for_timing
    from pruning import trace
    from pruning.checkpoints.checkpoint import load_model

    base = load_model(model)
    graph = trace(base, torch.zeros(1, 3, imgsz, imgsz))
    full = graph.cost().macs
    plans = list(uneven_plans(graph))
    paths = [export_for_timing(base, folder / "base.onnx", imgsz=imgsz)]
    for number in range(count):
        wanted = LARGEST * STEP**number * full
        plan = min(plans, key=lambda one: abs(one.cost().macs - wanted))
        plans.remove(plan)
        share = round(100 * plan.cost().macs / full)
        path = folder / f"{number:02d}-{share}.onnx"
        paths.append(export_for_timing(plan.apply(base), path, imgsz=imgsz))
    return paths


def uneven_plans(graph: Any, count: int = 400) -> Iterator[Any]:
    """Every group (or tie of groups) with a ratio of its own, round a mean that the plan has for itself."""
    random = np.random.default_rng(0)
    ties = {group.name: group.tie or group.name for group in graph.groups if not group.frozen}
    for _ in range(count):
        mean = random.uniform(0.02, 0.5)
        ratios = {tie: float(np.clip(random.normal(mean, 0.2), 0, 0.85)) for tie in dict.fromkeys(ties.values())}
        yield graph.plan({name: ratios[tie] for name, tie in ties.items()}, round_to=8)


def interleaved(paths: Sequence[str], imgsz: int, seconds: float, seed: int, runtime: str = "onnxruntime") -> Any:
    """As a search times: each candidate against the base, alone among trials, in random order of candidates."""
    from search.config.sections import LatencySpec
    from search.evaluate.timing.latency import lock_path, measure, open_timed
    from search.evaluate.timing.latency_cache import latency_to_json
    from search.evaluate.timing.measurement_lock import MeasurementLock

    spec = LatencySpec(seconds=seconds, runtime=runtime)
    found: dict[str, Any] = {}
    for at in np.random.default_rng(seed).permutation(len(paths)):
        sides = [open_timed(spec, Path(path), None, imgsz) for path in (paths[at], paths[0])]
        with MeasurementLock(lock_path()) as turns:
            (latency,) = measure(sides[:1], sides[1], spec, turns, seed=seed)
        found[Path(paths[at]).stem] = {**latency_to_json(latency), "score": latency.ratio.value}
    return found


def sequential(paths: Sequence[str], imgsz: int, seconds: float, seed: int) -> Any:
    """The usual way, in the same seconds: warm up, then the mean of all inferences, one candidate after the other."""
    from objectives.runtimes.open import open_runner

    found: dict[str, Any] = {}
    for at in np.random.default_rng(seed).permutation(len(paths)):
        runner = open_runner(Path(paths[at]), runtime="onnxruntime", imgsz=imgsz)
        end = time.perf_counter() + seconds
        for _ in range(3):
            runner.run()
        times = []
        while time.perf_counter() < end:
            start = time.perf_counter()
            runner.run()
            times.append(time.perf_counter() - start)
        found[Path(paths[at]).stem] = {"score": float(np.mean(times)) * 1e3}
    return found


def in_process(function: Any, *arguments: Any) -> Any:
    """Called in a fresh process: nothing of an earlier sweep lives on."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def train(model: str, data: str, imgsz: int, steps: Any) -> None:
    """A trial that trains for ever and waits whenever something is timed."""
    from objectives.ultralytics_door import quiet
    from pruning.checkpoints.checkpoint import load_model
    from pruning.recovery.finetune import Recovery, recover
    from search.evaluate.timing.latency import lock_path
    from search.evaluate.timing.measurement_lock import MeasurementLock
    from search.evaluate.timing.threads import limit_threads

    limit_threads(1)
    with MeasurementLock(lock_path()) as turns, tempfile.TemporaryDirectory() as folder, quiet():

        def step(_: float) -> None:
            steps.value += 1
            turns.pause()

        while True:
            recover(load_model(model), data, Recovery(epochs=5, imgsz=imgsz), work_dir=Path(folder), on_progress=step)


def compute(model: str, data: str, imgsz: int, steps: Any) -> None:
    """Another program: memory and arithmetic, and no turns."""
    left = np.random.default_rng(0).random((384, 384))
    while True:
        left = left @ left
        left /= np.abs(left).max()
        steps.value += 1


@contextmanager
def loaded(work: Any, options: argparse.Namespace, imgsz: int) -> Iterator[Any]:
    """`work` on every core, each in a process of its own, begun before anything is timed."""
    context = multiprocessing.get_context("spawn")
    counters = [context.Value("l", 0) for _ in range(os.cpu_count() or 1)] if work else []
    arguments = (str(options.model), str(options.data), min(imgsz, 320))
    workers = [context.Process(target=work, args=(*arguments, counter)) for counter in counters]
    for worker in workers:
        worker.start()
    try:
        while not all(counter.value > 2 for counter in counters):
            if not all(worker.is_alive() for worker in workers):
                sys.exit("a worker ended before it did anything: is the data there? python studies/digits/make_data.py")
            time.sleep(0.2)
        yield lambda: sum(counter.value for counter in counters)
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


WORK: dict[str, Any] = {"quiet": None, "workers": train, "foreign": compute}


def agreement(options: argparse.Namespace, paths: list[str], imgsz: int, condition: str) -> dict[str, Any]:
    """One row: tau between two sweeps, for our protocol and for sequential means, under one condition."""
    load = os.getloadavg()[0]
    with loaded(WORK[condition], options, imgsz) as steps:
        before, began = steps(), time.perf_counter()
        ours = [in_process(interleaved, paths, imgsz, options.seconds, seed) for seed in (1, 2)]
        seconds = (time.perf_counter() - began) / 2 / len(paths)
        spent = float(np.mean([row["seconds"] for sweep in ours for row in sweep.values()]))
        usual = [in_process(sequential, paths, imgsz, spent, seed) for seed in (3, 4)]
        worked = steps() - before
    bases = [sweep.pop("base") for sweep in ours]
    flagged = sum(bool(set(row["flags"]) - {"not_settled"}) for sweep in ours for row in sweep.values())
    return {
        "imgsz": imgsz,
        "condition": condition,
        "load_before": round(load, 2),
        "base_ms": bases[0]["reference_ms"],
        "itself": [base["ratio"]["value"] for base in bases],
        "tau": tau(*ours),
        "tau_sequential": tau(*[{k: v for k, v in sweep.items() if k != "base"} for sweep in usual]),
        "step": step_of(ours[0]),
        "half_width": float(np.median([half_width(row) for sweep in ours for row in sweep.values()])),
        "difference": float(np.median([abs(ours[0][k]["score"] / ours[1][k]["score"] - 1) for k in ours[0]])),
        "flagged": flagged / 2 / len(ours[0]),
        "seconds": spent,
        "wall_s": seconds,
        "work": worked,
        "sweeps": [{k: v["score"] for k, v in sweep.items()} for sweep in (*ours, *usual)],
    }


def tau(first: dict[str, Any], second: dict[str, Any]) -> float:
    """Kendall's tau of two sweeps over the same candidates."""
    names = sorted(first)
    return float(kendalltau([first[n]["score"] for n in names], [second[n]["score"] for n in names]).statistic)


def step_of(sweep: dict[str, Any]) -> float:
    """Median distance of neighbours in latency, as a share."""
    scores = sorted(row["score"] for row in sweep.values())
    return float(np.median(np.diff(scores) / np.array(scores[1:])))


def half_width(row: dict[str, Any]) -> float:
    ratio = row["ratio"]
    return float((ratio["high"] - ratio["low"]) / 2 / ratio["value"])


def openvino_agreement(options: argparse.Namespace, paths: list[str], imgsz: int) -> dict[str, Any]:
    """Our order on OpenVINO beside that of its own benchmark_app: the least of three medians, calls in turns."""
    ours = in_process(interleaved, paths, imgsz, options.seconds, 5, "openvino")
    ours.pop("base")
    medians: dict[str, list[float]] = {name: [] for name in ours}
    for _ in range(3):
        for path in paths[1:]:
            medians[Path(path).stem].append(benchmark_app(path, max(1, round(options.seconds / 3))))
    theirs = {name: {"score": min(found)} for name, found in medians.items()}
    return {"imgsz": imgsz, "condition": "benchmark_app", "tau": tau(ours, theirs), "step": step_of(ours)}


def benchmark_app(path: str, seconds: int) -> float:
    """Median milliseconds that OpenVINO's own tool finds, under the settings that we use."""
    tool = Path(sys.executable).with_name("benchmark_app")
    words = [str(tool), "-m", path, "-d", "CPU", "-hint", "none", "-nstreams", "1", "-nthreads", "1", "-api", "sync"]
    words += ["-nireq", "1", "-infer_precision", "f32", "-t", str(seconds)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return float(re.search(r"Median:\s+([\d.]+) ms", done.stdout)[1])  # type: ignore[index]


def verdicts(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, bool]]:
    """What was asked for, and whether it is so."""
    for row in rows:
        where = f"{row['imgsz']} px, {row['condition']}"
        if row["condition"] == "quiet":
            worst = max(row["itself"], key=lambda ratio: abs(ratio - 1))
            yield f"{where}: base against itself {worst:.4f}, within 1 %", abs(worst - 1) <= BARS["itself"]
        if row["condition"] in BARS:
            least = BARS[row["condition"]]
            yield f"{where}: tau {row['tau']:.2f}, at least {least}", row["tau"] >= least


def markdown(report: dict[str, Any]) -> str:
    """The tables of docs/latency.md."""
    lines = [
        f"Measured {report['date']} on {report['machine']}; {report['versions']}; one thread, batch 1; "
        f"{report['candidates']} candidates, at most {report['seconds']:g} s each.",
        "",
        "| px | condition | base | step between neighbours | tau, interleaved | tau, sequential means, same seconds "
        "| base against itself | 95 % half-width | sweeps differ by | flagged | s per candidate |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        if "itself" in row:
            itself = ", ".join(f"{ratio:.4f}" for ratio in row["itself"])
            lines.append(
                f"| {row['imgsz']} | {row['condition']} | {row['base_ms']:.2f} ms | {100 * row['step']:.1f} % "
                f"| **{row['tau']:.2f}** | {row['tau_sequential']:.2f} | {itself} | {100 * row['half_width']:.1f} % "
                f"| {100 * row['difference']:.1f} % | {100 * row['flagged']:.0f} % | {row['seconds']:.1f} |"
            )
    lines += [
        f"\nOpenVINO at {row['imgsz']} px: our order and that of `benchmark_app` agree with tau **{row['tau']:.2f}** "
        f"(neighbours {100 * row['step']:.1f} % apart)."
        for row in report["rows"]
        if row["condition"] == "benchmark_app"
    ]
    lines += ["", *(f"- {'met' if met else '**missed**'}: {text}" for text, met in verdicts(report["rows"]))]
    return "\n".join(lines)


def write_into(path: Path, text: str) -> None:
    """Replace what stands between the marks."""
    page = path.read_text(encoding="utf-8")
    before, rest = page.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    path.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}", encoding="utf-8")


def machine() -> str:
    from objectives.runtimes.runner import processor

    return f"{processor()}, {os.cpu_count()} cores, {platform.system()}"


def versions() -> str:
    names = ("onnxruntime", "openvino", "torch", "ultralytics")
    found = (f"{name} {metadata.version(name)}" for name in names)
    return ", ".join(found)


def measured(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for imgsz in options.sizes:
        with tempfile.TemporaryDirectory(prefix="latency-trust-") as folder:
            made = make_candidates(options.model, imgsz, options.candidates, Path(folder))
            paths = [str(path) for path in made]
            for condition in options.conditions:
                yield agreement(options, paths, imgsz, condition)
            if not options.skip_openvino:
                yield openvino_agreement(options, paths, imgsz)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "studies/digits/yolov8n-digits.pt")
    parser.add_argument("--data", type=Path, default=ROOT / "studies/digits/data/data.yaml")
    parser.add_argument("--sizes", type=lambda text: [int(size) for size in text.split(",")], default=[128, 640])
    parser.add_argument("--conditions", type=lambda text: text.split(","), default=list(WORK))
    parser.add_argument("--candidates", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=6.0, help="at most, per candidate")
    parser.add_argument("--skip-openvino", action="store_true")
    parser.add_argument("--json", type=Path, help="everything, for later")
    parser.add_argument("--write", type=Path, help="replace the figures between the marks of this page")
    options = parser.parse_args()
    report: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "candidates": options.candidates,
        "seconds": options.seconds,
        "rows": [],
    }
    for row in measured(options):
        report["rows"].append(row)
        print(json.dumps({key: found for key, found in row.items() if key != "sweeps"}), flush=True)
        if options.json:
            options.json.write_text(json.dumps(report, indent=1))
    print(markdown(report))
    if options.write:
        write_into(options.write, markdown(report))
    return 0 if all(met for _, met in verdicts(report["rows"])) else 1


if __name__ == "__main__":
    sys.exit(main())
