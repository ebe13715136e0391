# ruff: noqa: B905, UP
"""Times the models beside this file on this machine and writes figures.json. README.md says how.

Needs Python 3.8 or newer and the runtime that the models were made for, nothing else. The protocol is that of
ParetoPrune's objectives/latency/protocol.py: rounds in which base, candidate, base alternate; the fastest inference of
each block; the ratio to the base per round, and their median; several openings of each file, which take turns, and a 95
% interval that counts openings as independent.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import math
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

FORMAT = 1
HERE = os.path.dirname(os.path.abspath(__file__))
BLOCK_S = 0.008
MAX_RUNS_PER_BLOCK = 200
MIN_ROUNDS = 9
SMALLEST_SAMPLE = 6
DRIFT, THROTTLING, NOISE, FOREIGN_LOAD = 0.05, 0.10, 0.30, 0.05
Ratio = tuple[float, float, float]
T95 = (
    *(12.7062047, 4.30265273, 3.18244631, 2.77644511, 2.57058184, 2.44691185, 2.36462425, 2.30600414),
    *(2.26215716, 2.22813885, 2.20098516, 2.17881283, 2.16036866, 2.14478669, 2.13144955, 2.1199053),
    *(2.10981558, 2.10092204, 2.09302405, 2.08596345),
)
Z95 = 1.959963984540054


class OnnxModel:
    """An ONNX Runtime session."""

    def __init__(self, path: str, model: dict[str, Any], options: argparse.Namespace) -> None:
        import numpy
        import onnxruntime

        wanted = onnxruntime.SessionOptions()
        wanted.intra_op_num_threads = options.threads
        wanted.inter_op_num_threads = 1
        wanted.log_severity_level = 3
        wanted.add_session_config_entry("session.force_spinning_stop", "1")
        providers = [options.provider] if options.provider else ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(path, wanted, providers=providers)
        given = self.session.get_inputs()[0]
        self.feed = {given.name: image(numpy, given.shape, model, options)}

    def run(self) -> None:
        self.session.run(None, self.feed)

    @staticmethod
    def version() -> str:
        import onnxruntime

        return str(onnxruntime.__version__)


class OpenvinoModel:
    """A compiled OpenVINO model, in float32 on a CPU."""

    def __init__(self, path: str, model: dict[str, Any], options: argparse.Namespace) -> None:
        import numpy
        import openvino

        device = options.provider or "CPU"
        hints = {"PERFORMANCE_HINT": "LATENCY"}
        if device == "CPU":
            hints.update({"INFERENCE_NUM_THREADS": str(options.threads), "INFERENCE_PRECISION_HINT": "f32"})
        compiled = openvino.Core().compile_model(path, device, hints)
        self.request = compiled.create_infer_request()
        self.input = image(numpy, [int(side) for side in compiled.input(0).shape], model, options)

    def run(self) -> None:
        self.request.infer([self.input], share_inputs=True, share_outputs=True)

    @staticmethod
    def version() -> str:
        import openvino

        return str(openvino.__version__)


class NcnnModel:
    """An ncnn network, in float32 unless --half is given."""

    def __init__(self, path: str, model: dict[str, Any], options: argparse.Namespace) -> None:
        import ncnn
        import numpy

        self.net = ncnn.Net()
        self.net.opt.num_threads = options.threads
        for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic"):
            setattr(self.net.opt, "use_" + name, options.half)
        graph = file_in(path, ".param")
        if self.net.load_param(graph) or self.net.load_model(graph[: -len("param")] + "bin"):
            sys.exit(f"error: ncnn cannot open {path}")
        self.images = [ncnn.Mat(one).clone() for one in image(numpy, (1, model["channels"]), model, options)]
        self.names = list(self.net.input_names()), list(self.net.output_names())

    def run(self) -> None:
        for one in self.images:
            with self.net.create_extractor() as extractor:
                extractor.input(self.names[0][0], one)
                for name in self.names[1]:
                    extractor.extract(name)

    @staticmethod
    def version() -> str:
        import ncnn

        return str(ncnn.__version__)


class MnnModel:
    """A module of MNN, in float32 unless --half is given."""

    def __init__(self, path: str, model: dict[str, Any], options: argparse.Namespace) -> None:
        import MNN.expr
        import MNN.nn
        import numpy

        precision = "low" if options.half else "high"
        settings = {"backend": "CPU", "precision": precision, "numThread": options.threads}
        self.manager = MNN.nn.create_runtime_manager((settings,))
        self.net = MNN.nn.load_module_from_file(path, [], [], runtime_manager=self.manager, rearrange=True)
        given = image(numpy, (1, model["channels"]), model, options)
        self.input = MNN.expr.const(given, given.shape)

    def run(self) -> None:
        for part in self.net.onForward([self.input]):
            part.read()

    @staticmethod
    def version() -> str:
        import MNN

        return str(MNN.version())


class LitertModel:
    """An interpreter of LiteRT with its default delegate."""

    def __init__(self, path: str, model: dict[str, Any], options: argparse.Namespace) -> None:
        import numpy
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(model_path=path, num_threads=options.threads)
        self.interpreter.allocate_tensors()
        self.place = self.interpreter.get_input_details()[0]["index"]
        self.input = image(numpy, (1, model["channels"]), model, options)

    def run(self) -> None:
        self.interpreter.set_tensor(self.place, self.input)
        self.interpreter.invoke()

    @staticmethod
    def version() -> str:
        import ai_edge_litert

        return str(getattr(ai_edge_litert, "__version__", "unknown"))


class ExecutorchModel:
    """The method `forward` of an ExecuTorch program."""

    def __init__(self, path: str, model: dict[str, Any], options: argparse.Namespace) -> None:
        import numpy
        import torch
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        if portable_lib._threadpool_get_thread_count() != options.threads:
            portable_lib._unsafe_reset_threadpool(options.threads)
        self.program = Runtime.get().load_program(file_in(path, ".pte"))
        self.method = self.program.load_method("forward")
        self.input = torch.from_numpy(image(numpy, (1, model["channels"]), model, options))

    def run(self) -> None:
        self.method.execute([self.input])

    @staticmethod
    def version() -> str:
        from executorch import version

        return str(version.__version__)


class TorchscriptModel:
    """A TorchScript file."""

    def __init__(self, path: str, model: dict[str, Any], options: argparse.Namespace) -> None:
        import numpy
        import torch

        torch.set_num_threads(options.threads)
        self.torch, self.module = torch, torch.jit.load(path, map_location="cpu").eval()
        self.input = torch.from_numpy(image(numpy, (1, model["channels"]), model, options))
        for _ in range(3):  # the first runs profile and compile
            self.run()

    def run(self) -> None:
        with self.torch.inference_mode():
            self.module(self.input)

    @staticmethod
    def version() -> str:
        import torch

        return str(torch.__version__)


READ_ONNX: dict[str, Any] = {"onnxruntime": OnnxModel, "openvino": OpenvinoModel}
OWN_FILES: dict[str, Any] = {
    "ncnn": NcnnModel,
    "mnn": MnnModel,
    "litert": LitertModel,
    "executorch": ExecutorchModel,
    "torchscript": TorchscriptModel,
}
RUNTIMES: dict[str, Any] = {**READ_ONNX, **OWN_FILES}
PIP = {"mnn": "MNN", "litert": "ai-edge-litert", "torchscript": "torch"}


def file_in(folder: str, ending: str) -> str:
    """Return the file of a folder that ends so."""
    return os.path.join(folder, sorted(name for name in os.listdir(folder) if name.endswith(ending))[0])


def image(numpy: Any, shape: Sequence[Any], model: dict[str, Any], options: argparse.Namespace) -> Any:
    """Return a random image: zeros could be faster than images."""
    channels = shape[1] if isinstance(shape[1], int) else 3
    said = model["imgsz"]
    sides = said if isinstance(said, list) else [said, said]  # height and width
    return numpy.random.RandomState(0).random_sample((options.batch, channels, *sides)).astype(numpy.float32)


# What follows up to `measure` is arithmetic, held against ParetoPrune's own by its tests.


def quantile(values: Sequence[float], share: float) -> float:
    """Interpolate linearly between the two nearest samples."""
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])


def median_interval(samples: Sequence[float]) -> Ratio:
    """Return (median, low, high) between two order statistics; wider where there are too few samples for that."""
    ordered, n = sorted(samples), len(samples)
    middle = statistics.median(ordered)
    if n == 1:
        return middle, middle / 2, middle * 2
    below, k = 0.5**n, 0
    while below <= 0.025:
        k += 1
        below += combinations(n, k) * 0.5**n
    k = max(1, k)
    if n >= SMALLEST_SAMPLE:
        return middle, ordered[k - 1], ordered[n - k]
    margin = margin_of(ordered)
    return middle, min(ordered[k - 1], max(0.0, middle - margin)), max(ordered[n - k], middle + margin)


def margin_of(independent: Sequence[float]) -> float:
    """Return Student's t times the standard error of the median of normal samples."""
    freedom = len(independent) - 1
    t = T95[freedom - 1] if freedom <= len(T95) else _t95(freedom)
    return t * math.sqrt(math.pi / 2) * statistics.stdev(independent) / math.sqrt(len(independent))


def _t95(freedom: int) -> float:
    """Return the half-width of the central 95 % of Student's t, by its expansion (Abramowitz and Stegun 26.7.5)."""
    z = Z95
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(z + sum(term / freedom**power for power, term in enumerate(terms, 1)))


def combinations(n: int, k: int) -> int:
    return math.factorial(n) // (math.factorial(k) * math.factorial(n - k))


def clustered_interval(clusters: Sequence[Sequence[float]]) -> Ratio:
    """Return (median of all, low, high), with clusters as the independent samples."""
    middle, low, high = median_interval([sample for cluster in clusters for sample in cluster])
    medians = [statistics.median(cluster) for cluster in clusters if cluster]
    if len(medians) < 2:
        return middle, low, high
    margin = margin_of(medians)
    return middle, min(low, max(0.0, middle - margin)), max(high, middle + margin)


def settled(ratio: Ratio, half_width: float) -> bool:
    return (ratio[2] - ratio[1]) / 2 <= half_width * ratio[0]


def flags_of(
    ratio: Ratio, rounds: int, minima: list[float], times: list[float], waited_share: float, half_width: float
) -> list[str]:
    """Return flags; names and limits are those of ParetoPrune's objectives/latency/quality_flags.py."""
    found = []
    if not settled(ratio, half_width):
        found.append("not_settled")
    if rounds < SMALLEST_SAMPLE:
        found.append("few_rounds")
    third = len(minima) // 3
    change = statistics.median(minima[-third:]) / statistics.median(minima[:third]) - 1 if third else 0.0
    if abs(change) > DRIFT:
        found.append("drift")
    if change > THROTTLING:
        found.append("throttling")
    if waited_share > FOREIGN_LOAD:
        found.append("foreign_load")
    if quantile(times, 0.9) > (1 + NOISE) * quantile(times, 0.5):
        found.append("noisy")
    return found


def measure(
    candidate: list[Any],
    reference: list[Any],
    options: argparse.Namespace,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Compare one side with the other; a side is a list of openings of one file. Times in seconds."""
    gc.disable()
    try:
        start, waited = clock(), waited_s()
        typical = [warm_up(side, clock) for side in (reference, candidate)]
        runs = runs_per_block(typical, options.seconds)
        openings = max(len(reference), len(candidate))
        clusters: list[list[float]] = [[] for _ in range(openings)]
        times: list[float] = []
        base_times: list[float] = []
        minima: list[float] = []
        look, number = max(MIN_ROUNDS, 2 * openings), 0
        while True:
            base, other = reference[number % len(reference)], candidate[number % len(candidate)]
            blocks = [block(runner, runs, clock) for runner in (base, other, base)]
            least = [min(found) for found in blocks]
            clusters[number % openings].append(least[1] / math.sqrt(least[0] * least[2]))
            minima += [least[0], least[2]]
            times += blocks[1][1:] or blocks[1]
            base_times += (blocks[0][1:] or blocks[0]) + (blocks[2][1:] or blocks[2])
            number += 1
            done = number == look and settled(clustered_interval(clusters), options.half_width)
            if number == look:
                look = math.ceil(look * 1.3)
            if done or clock() - start >= options.seconds:
                break
        share = (waited_s() - waited) / (clock() - start)
    finally:
        gc.enable()
    ratio = clustered_interval(clusters)
    flags = flags_of(ratio, number, minima, base_times, share, options.half_width)
    return {"ratio": ratio, "times": times, "base_times": base_times, "rounds": number, "flags": flags}


def block(runner: Any, runs: int, clock: Callable[[], float]) -> list[float]:
    found = []
    for _ in range(runs):
        start = clock()
        runner.run()
        found.append(clock() - start)
    return found


def warm_up(side: list[Any], clock: Callable[[], float]) -> float:
    for runner in side:
        block(runner, 2, clock)
    return min(block(side[0], 3, clock))


def runs_per_block(typical: list[float], seconds: float) -> int:
    wanted = max(2, math.ceil(BLOCK_S / min(typical)))
    affordable = int(seconds / ((typical[1] + 2 * typical[0]) * MIN_ROUNDS))
    return max(1, min(wanted, affordable, MAX_RUNS_PER_BLOCK))


def waited_s() -> float:
    """Return the seconds this process was ready to run while another had the processor (Linux; elsewhere 0)."""
    waited = 0
    try:
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/schedstat") as file:
                waited += int(file.read().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return waited / 1e9


def pin(threads: int) -> None:
    """Pin this process to `threads` processors, the last ones, since the first serve interrupts."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) > threads:
            os.sched_setaffinity(0, set(allowed[-threads:]))


def processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith(("model name", "Model"))]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def read_manifest() -> dict[str, Any]:
    """Read the list of models; every file is checked against its sha256."""
    with open(os.path.join(HERE, "manifest.json")) as file:
        manifest: dict[str, Any] = json.load(file)
    for model in manifest["models"]:
        if digest(os.path.join(HERE, model["file"])) != model["sha256"]:
            sys.exit(f"error: {model['file']} is not the file that this kit was made with; unpack the kit again")
    return manifest


def digest(path: str) -> str:
    """Return the sha256 of a file; of a folder, over its files' names and contents in order."""
    if not os.path.isdir(path):
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    files = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    parts = sorted(os.path.relpath(file, path).split(os.sep) for file in files)
    found = hashlib.sha256()
    for part in parts:
        found.update(f"{'/'.join(part)} {digest(os.path.join(path, *part))}\n".encode())
    return found.hexdigest()


def options_of(manifest: dict[str, Any], words: list[str] | None) -> argparse.Namespace:
    settings = manifest["settings"]
    parser = argparse.ArgumentParser(description="Times the models of this kit; see README.md.")
    choices = sorted(READ_ONNX) if settings["runtime"] in READ_ONNX else [settings["runtime"]]
    parser.add_argument("--runtime", choices=choices, default=settings["runtime"])
    parser.add_argument("--half", action="store_true", help="ncnn and MNN: compute in half precision where they can")
    parser.add_argument("--provider", help="execution provider of ONNX Runtime, or device of OpenVINO; default: CPU")
    parser.add_argument("--threads", type=int, default=settings["threads"])
    parser.add_argument("--seconds", type=float, default=settings["seconds"], help="at most, per model")
    parser.add_argument("--openings", type=int, default=6, help="of each file; fewer need less memory")
    parser.add_argument("--name", default=platform.node() or "device", help="what to call this device")
    parser.add_argument("--out", default="figures.json")
    options = parser.parse_args(words)
    if options.threads < 1 or options.openings < 1 or not 0 < options.seconds < math.inf:
        parser.error("--threads, --openings and --seconds are above 0")
    options.half_width, options.batch = settings["half_width"], settings["batch"]
    return options


def opened(model: dict[str, Any], options: argparse.Namespace) -> list[Any]:
    path = os.path.join(HERE, model["file"])
    return [RUNTIMES[options.runtime](path, model, options) for _ in range(options.openings)]


def time_all(manifest: dict[str, Any], options: argparse.Namespace) -> tuple[list[Any], list[float], dict[str, Any]]:
    """Return (figures of each model, inferences of the base in seconds, the base's ratio to itself)."""
    base = next(model for model in manifest["models"] if model["base"])
    others = [model for model in manifest["models"] if not model["base"]]
    random.Random(0).shuffle(others)
    reference = opened(base, options)
    rows: list[Any] = []
    base_times: list[float] = []
    itself: dict[str, Any] = {}
    began = time.perf_counter()
    for number, model in enumerate([base, *others], 1):
        found = measure(opened(model, options), reference, options)
        base_times += found["base_times"]
        if model is base:
            itself = found
        else:
            rows.append((model, found))
        left_s = (time.perf_counter() - began) / number * (len(others) + 1 - number)
        print(f"{number}/{len(others) + 1} {model['file']}: {said(found)}, about {left_s:.0f} s left", flush=True)
    return rows, base_times, itself


def said(found: dict[str, Any]) -> str:
    value, low, high = found["ratio"]
    flags = " ".join(["", *found["flags"]])
    return f"{1e3 * quantile(found['times'], 0.5):.2f} ms, ratio {value:.3f} ({low:.3f} to {high:.3f}){flags}"


def estimate(ratio: Ratio) -> dict[str, float]:
    return dict(zip(("value", "low", "high"), ratio))


def figures_of(
    manifest: dict[str, Any],
    options: argparse.Namespace,
    rows: list[Any],
    base_times: list[float],
    itself: dict[str, Any],
) -> dict[str, Any]:
    base = next(model for model in manifest["models"] if model["base"])
    base_ms = 1e3 * quantile(base_times, 0.5)
    models = [entry(base, itself, estimate((1.0, 1.0, 1.0)), base_ms)]
    models += [entry(model, found, estimate(found["ratio"]), base_ms) for model, found in rows]
    return {
        "format": FORMAT,
        "kit": manifest["kit"],
        "name": options.name,
        "machine": {
            "system": f"{platform.system()} {platform.release()}",
            "machine": platform.machine(),
            "processor": processor(),
            "python": platform.python_version(),
            "runtime": options.runtime,
            "version": RUNTIMES[options.runtime].version(),
            "provider": options.provider or "CPU",
            "precision": "half where it can" if options.half else "as exported",
            "threads": options.threads,
            "batch": options.batch,
        },
        "itself": estimate(itself["ratio"]),
        "models": models,
    }


def entry(model: dict[str, Any], found: dict[str, Any], ratio: dict[str, float], base_ms: float) -> dict[str, Any]:
    return {
        "file": model["file"],
        "sha256": model["sha256"],
        "ratio": ratio,
        "latency_ms": {name: base_ms * number for name, number in ratio.items()},
        "p50_ms": 1e3 * quantile(found["times"], 0.5),
        "p90_ms": 1e3 * quantile(found["times"], 0.9),
        "rounds": found["rounds"],
        "flags": found["flags"],
    }


def main(words: list[str] | None = None) -> int:
    manifest = read_manifest()
    options = options_of(manifest, words)
    pin(options.threads)
    try:
        RUNTIMES[options.runtime].version()
    except ImportError:
        print(
            f"error: {options.runtime} is not installed; next: pip install {PIP.get(options.runtime, options.runtime)}",
            file=sys.stderr,
        )
        return 4
    figures = figures_of(manifest, options, *time_all(manifest, options))
    part = options.out + ".part"
    with open(part, "w") as file:
        json.dump(figures, file, indent=1, allow_nan=False)
    os.replace(part, options.out)
    print(f"wrote {options.out}; next, where the run is: paretoprune bench RUN --import {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
