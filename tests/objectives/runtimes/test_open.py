from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from objectives import BackendMissing, LatencyError
from objectives.latency.protocol import compare
from objectives.runtimes.open import OPSET, export_for_timing, open_runner, open_side
from objectives.runtimes.tensorrt_runner import plan_of
from tests.objectives.rectangles import SIZE, state_of, unchanged


@pytest.fixture(scope="module")
def exported(tiny_yolo: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_for_timing(tiny_yolo, tmp_path_factory.mktemp("onnx") / "yolo.v8.onnx", imgsz=SIZE)


def plain_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 30 * 30, 4)
    ).eval()


def test_export_writes_exactly_the_path_and_leaves_the_module(
    tiny_yolo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "cwd"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    before, attributes, threads = state_of(tiny_yolo), sorted(vars(tiny_yolo)), torch.get_num_threads()
    path = export_for_timing(tiny_yolo, tmp_path / "out" / "a.b.onnx", imgsz=SIZE)
    assert path == tmp_path / "out" / "a.b.onnx"
    assert [p.name for p in path.parent.iterdir()] == ["a.b.onnx"] and not list(elsewhere.iterdir())
    assert unchanged(tiny_yolo, before) and sorted(vars(tiny_yolo)) == attributes
    assert torch.get_num_threads() == threads
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == ""


def test_exported_graph_has_the_pinned_opset_and_the_models_output(exported: Path, tiny_yolo: Any) -> None:
    assert next(o.version for o in onnx.load(str(exported)).opset_import if o.domain == "") == OPSET
    image = np.random.default_rng(1).random((1, 3, SIZE, SIZE), dtype=np.float32)
    (by_onnx,) = onnxruntime.InferenceSession(str(exported)).run(None, {"images": image})
    with torch.inference_mode():
        by_torch = tiny_yolo(torch.from_numpy(image))[0].numpy()
    np.testing.assert_allclose(by_onnx, by_torch, rtol=1e-3, atol=1e-2)


def test_export_replaces_an_older_file(tiny_yolo: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_text("old")
    assert export_for_timing(tiny_yolo, path, imgsz=SIZE).stat().st_size > 10**6


def test_export_of_a_plain_module(tmp_path: Path) -> None:
    model = plain_model()
    before = state_of(model)
    path = export_for_timing(model, tmp_path / "plain.onnx", imgsz=32, batch=2)
    assert unchanged(model, before)
    runner = open_runner(path, runtime="onnxruntime", imgsz=32, batch=2)
    runner.run()
    assert runner.describe()["batch"] == 2


def test_faults_of_export_are_named(tiny_yolo: Any, tmp_path: Path) -> None:
    with pytest.raises(LatencyError, match=r"ends in \.onnx"):
        export_for_timing(tiny_yolo, tmp_path / "model.pt", imgsz=SIZE)
    with pytest.raises(LatencyError, match="imgsz=100 is not a multiple of the model's stride 32"):
        export_for_timing(tiny_yolo, tmp_path / "model.onnx", imgsz=100)
    with pytest.raises(LatencyError, match="Sequential could not be exported to ONNX at imgsz=64"):
        export_for_timing(plain_model(), tmp_path / "model.onnx", imgsz=64)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("model", [None, nn.Sequential(nn.Conv2d(3, 4, 3)).eval()], ids=["yolo", "plain"])
def test_a_size_of_two_sides(model: Any, tiny_yolo: Any, tmp_path: Path) -> None:
    path = export_for_timing(model or tiny_yolo, tmp_path / "m.onnx", imgsz=(32, 64))
    for artefact, runtime in ((path, "onnxruntime"), (model or tiny_yolo, "torch")):
        runner = open_runner(artefact, runtime=runtime, imgsz=(32, 64))
        runner.run()
        assert runner.describe()["imgsz"] == "32x64"
    with pytest.raises(LatencyError, match=r"input of \(1, 3, 32, 64\), but batch=1 and imgsz=64x32 were asked for"):
        open_runner(path, runtime="onnxruntime", imgsz=(64, 32))
    with pytest.raises(LatencyError, match="imgsz=64x100 is not a multiple of the model's stride 32"):
        export_for_timing(tiny_yolo, tmp_path / "other.onnx", imgsz=(64, 100))


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_a_module_runs_on_each_runtime_unchanged(tiny_yolo: Any, runtime: Any) -> None:
    before, threads = state_of(tiny_yolo), torch.get_num_threads()
    runner = open_runner(tiny_yolo, runtime=runtime, imgsz=SIZE, threads=1)
    runner.run()
    facts = runner.describe()
    assert facts["runtime"] == runtime and facts["threads"] == 1 and facts["imgsz"] == SIZE and facts["device"] == "cpu"
    assert unchanged(tiny_yolo, before)
    torch.set_num_threads(threads)


def test_torch_threads_are_those_asked_for_even_if_another_sets_them(tiny_yolo: Any) -> None:
    threads = torch.get_num_threads()
    runner = open_runner(tiny_yolo, runtime="torch", imgsz=SIZE, threads=1)
    torch.set_num_threads(2)
    runner.run()
    assert torch.get_num_threads() == 1
    torch.set_num_threads(threads)


def test_a_checkpoint_runs(tiny_yolo: Any, tmp_path: Path) -> None:
    from copy import deepcopy

    path = tmp_path / "model.pt"
    torch.save({"model": deepcopy(tiny_yolo), "train_args": {}}, path)
    open_runner(path, runtime="torch", imgsz=SIZE).run()


def test_the_same_model_twice_has_the_ratio_one(exported: Path) -> None:
    first, second = (open_runner(exported, runtime="onnxruntime", imgsz=SIZE) for _ in range(2))
    for _ in range(5):  # other processes may be busy for a whole measurement; the simulated tests are sharp
        result = compare(first, second, cap_s=0.5, half_width=0.03)
        if 0.8 < result.ratio.value < 1.25:
            break
    assert 0.8 < result.ratio.value < 1.25
    assert 0 < result.p50_ms <= result.p90_ms and result.rounds >= 1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda p: open_runner(p, runtime="onnx", imgsz=64), "Did you mean onnxruntime"),
        (lambda p: open_runner(p / "none.onnx", runtime="onnxruntime", imgsz=64), "no artefact at"),
        (lambda p: open_runner(p / "none.onnx", runtime="torch", imgsz=64), "no artefact at"),
        (lambda p: open_runner(nn.Identity(), runtime="torch", imgsz=64, threads=0), "at least 1"),
        (
            lambda p: open_runner(nn.Identity(), runtime="torch", imgsz=64, device="gpuu"),
            "Unknown device 'gpuu'",
        ),
        (lambda p: open_runner(plain_model(), runtime="torch", imgsz=64), "does not take an input of"),
    ],
)
def test_faults_of_opening_are_named(call: Callable[[Path], object], said: str, tmp_path: Path) -> None:
    with pytest.raises(LatencyError, match=said):
        call(tmp_path)


def test_an_artefact_of_another_size_is_refused(exported: Path) -> None:
    with pytest.raises(LatencyError, match=r"takes an input of \(1, 3, 64, 64\), but batch=4 and imgsz=96"):
        open_runner(exported, runtime="onnxruntime", imgsz=96, batch=4)
    with pytest.raises(LatencyError, match=r"a module or a \.pt checkpoint"):
        open_runner(exported, runtime="torch", imgsz=64)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    for name, runtime in (("broken.onnx", "onnxruntime"), ("broken.pt", "torch")):
        (tmp_path / name).write_bytes(b"not a model")
        with pytest.raises(LatencyError, match=name.replace(".", r"\.")):
            open_runner(tmp_path / name, runtime=runtime, imgsz=64)  # type: ignore[arg-type]


def test_a_missing_runtime_says_how_to_get_it(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # import raises ImportError
    with pytest.raises(BackendMissing, match="pip install openvino") as caught:
        open_runner(exported, runtime="openvino", imgsz=SIZE)
    assert caught.value.install == "pip install openvino"


def test_a_missing_cuda_provider_says_how_to_get_it(exported: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(BackendMissing, match="pip install onnxruntime-gpu"):
        open_runner(exported, runtime="onnxruntime", imgsz=SIZE, device="cuda")


def test_openvino_computes_in_float32_even_where_the_processor_has_bfloat16(exported: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed: pip install openvino")
    runner = open_runner(exported, runtime="openvino", imgsz=SIZE, threads=1)
    runner.run()
    facts = runner.describe()
    assert facts["runtime"] == "openvino" and facts["threads"] == 1 and facts["precision"] == "fp32"


def test_a_side_is_several_openings_of_one_file(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("objectives.runtimes.open.OPENING_S", 1e6)
    side = open_side(exported, 4, runtime="onnxruntime", imgsz=SIZE)
    assert len({id(runner) for runner in side}) == 4
    monkeypatch.setattr("objectives.runtimes.open.OPENING_S", 0.0)
    assert len(open_side(exported, 4, runtime="onnxruntime", imgsz=SIZE)) == 1, "what opens slowly is opened once"


def test_tensorrt_that_is_missing_says_how_to_get_it(exported: Path) -> None:
    if importlib.util.find_spec("tensorrt"):
        pytest.skip("tensorrt is installed here")
    with pytest.raises(BackendMissing, match="pip install tensorrt"):
        open_runner(exported, runtime="tensorrt", imgsz=SIZE)


def test_tensorrt_gives_a_runner(exported: Path) -> None:
    pytest.importorskip("tensorrt", reason="tensorrt is not installed: pip install tensorrt, on a machine with a GPU")
    if not torch.cuda.is_available():
        pytest.skip("TensorRT needs a CUDA device")
    runner = open_runner(exported, runtime="tensorrt", imgsz=SIZE, device="0")
    runner.run()
    assert runner.describe()["runtime"] == "tensorrt"


def test_the_engine_in_a_file_of_ultralytics_is_found(tmp_path: Path) -> None:
    facts = json.dumps({"stride": 32}).encode()
    (tmp_path / "with.engine").write_bytes(len(facts).to_bytes(4, "little") + facts + b"plan")
    (tmp_path / "plain.engine").write_bytes(b"ftrtplan")
    assert plan_of(tmp_path / "with.engine") == b"plan" and plan_of(tmp_path / "plain.engine") == b"ftrtplan"
