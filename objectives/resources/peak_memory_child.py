"""Run as a script: FORMAT PATH SHAPE THREADS. Opens the artefact, runs it three times, prints its peak memory.

It imports the runtime and nothing of this package, so as to measure what a user's own program would need.
"""

from __future__ import annotations

import glob
import importlib
import json
import os
import re
import resource
import sys
from collections.abc import Callable
from typing import Any

MODULES = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "torchscript": "torch",
    "ncnn": "ncnn",
    "mnn": "MNN.nn",
    "litert": "ai_edge_litert.interpreter",
    "executorch": "executorch.runtime",
}


def peak_mb() -> float:
    """Return the largest resident size of this process. `ru_maxrss` would start with the parent's on Linux."""
    try:
        with open("/proc/self/status") as status:
            found = re.search(r"VmHWM:\s+(\d+) kB", status.read())
        if found is None:
            raise OSError("the kernel does not say the largest resident size")
        return int(found.group(1)) * 1024 / 1e6
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def open_onnx(path: str, image: Any, threads: int) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: image}
    return lambda: session.run(None, feed)


def open_openvino(path: str, image: Any, threads: int) -> Callable[[], object]:
    import openvino

    source = sorted(glob.glob(os.path.join(path, "*.xml")))[0] if os.path.isdir(path) else path
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(threads), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(source, "CPU", options)
    return lambda: compiled([image])


def open_torchscript(path: str, image: Any, threads: int) -> Callable[[], object]:
    import torch

    torch.set_num_threads(threads)
    try:
        module = torch.jit.load(path, map_location="cpu").eval()
    except RuntimeError:  # suppression inside is an operator of torchvision
        importlib.import_module("torchvision")
        module = torch.jit.load(path, map_location="cpu").eval()
    given = torch.from_numpy(image)
    return lambda: module(given)


def open_ncnn(path: str, image: Any, threads: int) -> Callable[[], object]:
    import ncnn

    graph = sorted(glob.glob(os.path.join(path, "*.param")))[0]
    net = ncnn.Net()
    net.opt.num_threads = threads
    if net.load_param(graph) or net.load_model(graph[: -len("param")] + "bin"):
        raise OSError(f"ncnn cannot open {path}")
    given = ncnn.Mat(image[0]).clone()

    def run() -> None:
        with net.create_extractor() as extractor:
            extractor.input(net.input_names()[0], given)
            for name in net.output_names():
                extractor.extract(name)

    return run


def open_mnn(path: str, image: Any, threads: int) -> Callable[[], object]:
    import MNN.expr
    import MNN.nn

    manager = MNN.nn.create_runtime_manager(({"backend": "CPU", "numThread": threads},))
    net = MNN.nn.load_module_from_file(path, [], [], runtime_manager=manager, rearrange=True)
    given = MNN.expr.const(image, image.shape)
    return lambda: [part.read() for part in net.onForward([given])]


def open_litert(path: str, image: Any, threads: int) -> Callable[[], object]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    place = interpreter.get_input_details()[0]["index"]

    def run() -> None:
        interpreter.set_tensor(place, image)
        interpreter.invoke()

    return run


def open_executorch(path: str, image: Any, threads: int) -> Callable[[], object]:
    import torch
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(sorted(glob.glob(os.path.join(path, "*.pte")))[0])
    method = program.load_method("forward")
    given = torch.from_numpy(image)
    return lambda: (program, method.execute([given]))


def open_backend(path: str, image: Any, threads: int) -> Callable[[], object]:
    import torch
    from ultralytics.nn.autobackend import AutoBackend

    device = torch.device("cuda:0" if path.endswith(".engine") else "cpu")
    backend = AutoBackend(path, device=device, verbose=False)
    given = torch.from_numpy(image).to(device)
    return lambda: backend(given)


OPENERS = {
    "onnx": open_onnx,
    "openvino": open_openvino,
    "torchscript": open_torchscript,
    "ncnn": open_ncnn,
    "mnn": open_mnn,
    "litert": open_litert,
    "executorch": open_executorch,
}


def main(form: str, path: str, shape: str, threads: str) -> None:
    """Print {"peak_mb", "runtime_mb"} as the last line."""
    import numpy

    importlib.import_module(MODULES.get(form, "ultralytics"))
    before = peak_mb()
    image = numpy.random.default_rng(0).random([int(part) for part in shape.split(",")], dtype=numpy.float32)
    run = OPENERS.get(form, open_backend)(path, image, int(threads))
    for _ in range(3):
        run()
    print(json.dumps({"peak_mb": round(peak_mb(), 1), "runtime_mb": round(before, 1)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
