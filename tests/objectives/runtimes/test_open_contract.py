"""What every runtime promises: the outputs of the module, the conditions that were asked for, faults by name."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from objectives import BackendMissing, LatencyError
from objectives.runtimes.names import check_packages, distribution_of, file_suffix, module_of
from objectives.runtimes.open import open_runner
from objectives.runtimes.runner import Computes, Runner
from tests.objectives.runtimes.contract import HERE, SIZE, artefact, expected, image, skip_unless_installed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artefacts")


def opened(runtime: str, folder: Path, *, batch: int = 1, imgsz: int = SIZE, threads: int = 1) -> Runner:
    return open_runner(artefact(runtime, folder, batch), runtime=runtime, imgsz=imgsz, batch=batch, threads=threads)


@pytest.mark.parametrize("runtime", HERE)
def test_it_computes_what_the_module_computes_and_says_on_what(
    runtime: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    runner = opened(runtime, folder)
    runner.run()
    assert isinstance(runner, Computes)
    for seed in (1, 2):
        (found,) = runner.outputs(image(seed=seed))
        np.testing.assert_allclose(found, expected(image(seed=seed)), rtol=1e-4, atol=1e-5)
        assert found.dtype == np.float32
        runner.run()  # between two inferences of other images
    facts = runner.describe()
    assert facts["version"] and {key: facts[key] for key in facts if key != "version"} == {
        **{"runtime": runtime, "device": "cpu", "threads": 1, "batch": 1, "imgsz": SIZE, "precision": "fp32"}
    }
    torch.set_num_threads(threads)
    said = capfd.readouterr()
    assert said.out == "", "standard output belongs to -f json"
    assert said.err == ""


@pytest.mark.parametrize("runtime", HERE)
def test_a_batch_is_all_of_its_images(runtime: str, folder: Path) -> None:
    threads = torch.get_num_threads()
    runner = opened(runtime, folder, batch=2)
    runner.run()
    assert isinstance(runner, Computes) and runner.describe()["batch"] == 2
    (found,) = runner.outputs(image(2))
    np.testing.assert_allclose(found, expected(image(2)), rtol=1e-4, atol=1e-5)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("runtime", HERE)
def test_two_openings_are_two(runtime: str, folder: Path) -> None:
    threads = torch.get_num_threads()
    more = 1 if runtime == "executorch" else 2  # its threads are those of the process
    first, second = opened(runtime, folder), opened(runtime, folder, threads=more)
    assert isinstance(first, Computes) and isinstance(second, Computes)
    assert (first.describe()["threads"], second.describe()["threads"]) == (1, more)
    before, other = first.outputs(image(seed=1))[0].copy(), second.outputs(image(seed=2))[0].copy()
    del second
    np.testing.assert_array_equal(first.outputs(image(seed=1))[0], before)
    assert np.abs(before - other).max() > 1e-3
    torch.set_num_threads(threads)


def test_executorch_refuses_other_threads_beside_an_open_program(folder: Path) -> None:
    skip_unless_installed("executorch")
    first = opened("executorch", folder)
    with pytest.raises(LatencyError, match="runs with 1 threads in this process, found threads=2"):
        opened("executorch", folder, threads=2)
    first.run()
    del first
    assert opened("executorch", folder, threads=2).describe()["threads"] == 2


@pytest.mark.parametrize("runtime", [name for name in HERE if name != "torch"])
def test_what_it_cannot_open_is_named(runtime: str, folder: Path, tmp_path: Path) -> None:
    good = artefact(runtime, folder)
    assert isinstance(good, Path)
    with pytest.raises(LatencyError, match=rf"takes an input of \(1, 3, {SIZE}, {SIZE}\), but batch=1 and imgsz=64"):
        open_runner(good, runtime=runtime, imgsz=64)
    with pytest.raises(LatencyError, match="no artefact at"):
        open_runner(tmp_path / f"absent{file_suffix(runtime)}", runtime=runtime, imgsz=SIZE)
    broken = tmp_path / f"broken{file_suffix(runtime)}"
    if good.is_dir():
        assert not list(good.glob("*.py")), "a program with a path of this machine in it"
        broken.mkdir()
        for file in good.iterdir():
            (broken / file.name).write_bytes(b"not a model")
    else:
        broken.write_bytes(b"not a model")
    with pytest.raises(LatencyError, match="broken"):
        open_runner(broken, runtime=runtime, imgsz=SIZE)


@pytest.mark.parametrize("runtime", ["torchscript", "ncnn", "mnn", "litert", "executorch"])
def test_an_onnx_file_and_another_device_are_refused(runtime: str, folder: Path) -> None:
    onnx, own = artefact("onnxruntime", folder), artefact(runtime, folder)
    with pytest.raises(LatencyError, match=f"{runtime} does not read .*Give it the checkpoint"):
        open_runner(onnx, runtime=runtime, imgsz=SIZE)
    with pytest.raises(LatencyError, match="is timed on the CPU here, found device=0"):
        open_runner(own, runtime=runtime, imgsz=SIZE, device="0")


@pytest.mark.parametrize(
    ("runtime", "module", "line"),
    [
        ("ncnn", "ncnn", "pip install ncnn"),
        ("mnn", "MNN", "pip install MNN"),
        ("litert", "ai_edge_litert", "pip install ai-edge-litert"),
        ("executorch", "executorch", "pip install executorch"),
    ],
)
def test_a_missing_package_says_how_to_get_it(
    runtime: str, module: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)  # import raises ImportError
    with pytest.raises(BackendMissing, match=line) as caught:
        open_runner(nn.Identity(), runtime=runtime, imgsz=SIZE)
    assert caught.value.install == line


def test_the_converter_is_asked_for_only_where_a_file_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("objectives.runtimes.names.find_spec", lambda name: None if name == "pnnx" else name)
    check_packages("ncnn")
    with pytest.raises(BackendMissing, match="pip install pnnx==20260526"):
        check_packages("ncnn", converts=True)
    assert (module_of("mnn"), distribution_of("litert"), distribution_of("torchscript")) == (
        *("MNN", "ai-edge-litert", "torch"),
    )


def test_mnns_converter_installs_nothing_and_calls_nobody(folder: Path) -> None:
    skip_unless_installed("mnn")
    artefact("mnn", folder)
    from MNN.tools import mnnconvert

    assert mnnconvert.mnn_logger is None and "aliyun" not in sys.modules
