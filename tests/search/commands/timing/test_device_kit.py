"""The device kit: what is in it, its arithmetic, and its runner in a bare virtual environment."""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from objectives.latency import intervals, protocol, quality_flags
from objectives.runtimes.names import SUFFIXES
from search.commands.timing import device_kit
from search.commands.timing.bench import settings_of
from search.commands.timing.device_kit import build_kit
from search.run_folder.artefact_files import digest
from search.study import Study
from tests.objectives.runtimes import contract
from tests.search.conftest import run

RUNNER = Path(device_kit.__file__).parent / "kit" / "run.py"
SAMPLES = st.lists(st.floats(0.1, 10), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kit_run", RUNNER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("imgsz", "shape"), [(64, (2, 1, 64, 64)), ([64, 96], (2, 1, 64, 96))])
def test_a_manifest_has_one_side_or_two(runner: ModuleType, imgsz: object, shape: tuple[int, ...]) -> None:
    made = runner.image(np, ["batch", 1, "height", "width"], {"imgsz": imgsz}, argparse.Namespace(batch=2))
    assert made.shape == shape and made.dtype == np.float32


@pytest.fixture(scope="module")
def built(planned_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """kit.zip, and kits/, what the run remembers of it: exported once."""
    folder = tmp_path_factory.mktemp("kit")
    shutil.copytree(planned_once, folder / "runs")
    study = Study.load(folder / "runs" / "planned")
    build_kit(study, folder / "kit.zip", settings_of(study, {"seconds": 0.5}))
    shutil.copytree(study.record.path / "latency" / "kits", folder / "kits")
    return folder


@pytest.fixture
def unpacked(planned: Study, built: Path, tmp_path: Path) -> Path:
    """The kit of the run `planned`, unpacked."""
    shutil.copytree(built / "kits", planned.record.path / "latency" / "kits")
    with zipfile.ZipFile(built / "kit.zip") as archive:
        archive.extractall(tmp_path / "kit")
    return tmp_path / "kit"


def test_the_runner_needs_no_more_than_python_3_8_and_its_library() -> None:
    tree = ast.parse(RUNNER.read_text(), feature_version=(3, 8))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "")])
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    runtimes = {"onnxruntime", "openvino", "ncnn", "MNN", "ai_edge_litert", "executorch", "torch"}
    assert imported - sys.stdlib_module_names == {"numpy", *runtimes}
    newer = ("removeprefix", "removesuffix", "bit_count", "is_relative_to", "strict=", "match ", "pairwise")
    assert not [word for word in newer if word in RUNNER.read_text()]


@given(st.lists(SAMPLES, min_size=1, max_size=8))
def test_intervals_are_those_of_the_protocol(runner: ModuleType, clusters: list[list[float]]) -> None:
    ours = intervals.clustered_interval(clusters)
    rounding = 1e-6 * ours.high  # an end near 0 is a difference of larger numbers
    assert runner.clustered_interval(clusters) == pytest.approx((ours.value, ours.low, ours.high), abs=rounding)
    plain = intervals.median_interval(clusters[0])
    assert runner.median_interval(clusters[0]) == pytest.approx((plain.value, plain.low, plain.high))


@given(SAMPLES, st.floats(0, 1))
def test_quantiles_are_those_of_numpy(runner: ModuleType, values: list[float], share: float) -> None:
    assert runner.quantile(values, share) == pytest.approx(float(np.quantile(values, share)))


@given(st.lists(st.floats(1e-4, 1.0), min_size=3, max_size=3), st.floats(0.1, 20))
def test_blocks_are_as_long_as_those_of_the_protocol(runner: ModuleType, typical: list[float], cap_s: float) -> None:
    pair = typical[:2]
    assert runner.runs_per_block(pair, cap_s) == protocol._runs_per_block(pair, cap_s, runner.MIN_ROUNDS)


@given(SAMPLES, SAMPLES)
def test_flags_are_those_of_the_protocol(runner: ModuleType, minima: list[float], times: list[float]) -> None:
    found = runner.flags_of((1.0, 1.0, 1.0), 9, minima, times, 0.0, 0.01)
    assert found == [*quality_flags.drift_flags(minima), *quality_flags.noise_flags(np.array(times))]
    assert set(runner.flags_of((1.0, 0.5, 1.5), 2, [1.0], [1.0], 0.5, 0.01)) == {
        *("not_settled", "few_rounds", "foreign_load"),
    } <= set(quality_flags.FLAGS)  # fmt: skip


def test_the_runner_finds_the_ratio_that_is_there(runner: ModuleType) -> None:
    """Six openings of each side that differ by 1 %, and inferences that scatter by 3 %, on a clock of the test."""
    now, rng, hits = [0.0], np.random.default_rng(0), []

    class Fake:
        def __init__(self, seconds: float) -> None:
            self.seconds = seconds * rng.normal(1, 0.01)

        def run(self) -> None:
            now[0] += self.seconds * np.exp(abs(rng.normal(0, 0.03)))

    options = runner.argparse.Namespace(seconds=6.0, half_width=0.01)
    for _ in range(40):
        sides = [[Fake(seconds) for _ in range(6)] for seconds in (0.004, 0.005)]
        _, low, high = runner.measure(*sides, options, clock=lambda: now[0])["ratio"]
        hits.append(low <= 0.8 <= high)
    assert np.mean(hits) >= 0.85


def test_a_kit_holds_each_network_once_with_its_hash(planned: Study, unpacked: Path) -> None:
    manifest = json.loads((unpacked / "manifest.json").read_text())
    assert sorted(path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()) == [
        *("README.md", "manifest.json", "models/0000.onnx", "models/0002.onnx", "models/0003.onnx", "models/base.onnx"),
        "run.py",
    ]
    stands_for = {row["file"]: (row["base"], sorted(row["trials"])) for row in manifest["models"]}
    assert stands_for == {
        "models/base.onnx": (True, []),
        "models/0002.onnx": (False, [2]),
        "models/0003.onnx": (False, [1, 3]),
        "models/0000.onnx": (False, [0]),
    }
    for row in manifest["models"]:
        assert hashlib.sha256((unpacked / row["file"]).read_bytes()).hexdigest() == row["sha256"]
    kept = planned.record.path / "latency" / "kits" / f"{manifest['kit'][:16]}.json"
    assert json.loads(kept.read_text()) == manifest


@pytest.mark.filterwarnings("ignore:`torch.jit.load`:FutureWarning")
@pytest.mark.parametrize("runtime", list(SUFFIXES))
def test_the_runner_opens_the_files_of_every_runtime(runner: ModuleType, runtime: str, tmp_path: Path) -> None:
    path = contract.artefact(runtime, tmp_path)
    assert isinstance(path, Path) and runner.digest(str(path)) == digest(path)
    options, threads = runner.argparse.Namespace(threads=1, batch=1, half=False), torch.get_num_threads()
    opened = runner.OWN_FILES[runtime](str(path), {"imgsz": contract.SIZE, "channels": 3}, options)
    opened.run()
    assert opened.version()
    torch.set_num_threads(threads)


@pytest.mark.slow  # beside the one above
def test_a_kit_of_another_format_holds_that_format_only(planned: Study, tmp_path: Path) -> None:
    contract.skip_unless_installed("mnn")
    build_kit(planned, tmp_path / "kit.zip", settings_of(planned, {"runtime": "mnn", "seconds": 0.1}))
    with zipfile.ZipFile(tmp_path / "kit.zip") as archive:
        archive.extractall(tmp_path / "kit")
    done = _started(sys.executable, tmp_path / "kit", "--openings", "1", "--name", "board")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "kit" / "figures.json").read_text())
    assert {Path(row["file"]).suffix for row in figures["models"]} == {".mnn"}
    assert figures["machine"]["runtime"] == "mnn" and figures["machine"]["precision"] == "as exported"
    refused = _started(sys.executable, tmp_path / "kit", "--runtime", "onnxruntime")
    assert refused.returncode == 2 and "invalid choice: 'onnxruntime'" in refused.stderr
    facts = json.loads(run("bench", "planned", "--import", str(tmp_path / "kit" / "figures.json"), "-f", "json").stdout)
    assert facts["target"] == "board" and len(facts["rows"]) == 4


def test_a_model_that_is_a_folder_is_packed_with_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "base_ncnn_model").mkdir()
    for name in ("model.ncnn.param", "model.ncnn.bin"):
        (tmp_path / "base_ncnn_model" / name).write_text(name)
    device_kit._write_zip(tmp_path / "kit.zip", {"models": [{"file": "models/base_ncnn_model"}]}, tmp_path)
    with zipfile.ZipFile(tmp_path / "kit.zip") as archive:
        packed = [name for name in archive.namelist() if name.startswith("models/")]
        assert packed == [f"models/base_ncnn_model/model.ncnn.{part}" for part in ("bin", "param")]
        assert archive.read(packed[0]) == b"model.ncnn.bin"


def test_kits_are_refused_where_they_would_be_useless(planned: Study, tmp_path: Path) -> None:
    result = run("bench", "planned", "--bundle", "kit.zip", "runtime=torch")
    assert result.exit_code == 2 and "onnxruntime or openvino" in result.stderr
    result = run("bench", "planned", "best.pt", "--bundle", "kit.zip")
    assert result.exit_code == 2 and "a kit belongs to one run" in result.stderr
    assert not list(tmp_path.glob("*.zip*"))


def test_a_damaged_kit_is_not_timed(unpacked: Path) -> None:
    (unpacked / "models" / "0002.onnx").write_bytes(b"cut off")
    done = _started(sys.executable, unpacked)
    assert done.returncode == 1 and "models/0002.onnx is not the file" in done.stderr
    assert not (unpacked / "figures.json").exists()


def test_the_kit_runs_in_a_bare_environment_and_the_study_is_re_ranked(planned: Study, unpacked: Path) -> None:
    """Only onnxruntime (and what it needs itself) is installed there: not this package, not torch."""
    python = _bare_environment(unpacked.parent / "bare")
    done = _started(python, unpacked, "--name", "bare", "--openings", "2")
    assert done.returncode == 0, done.stderr
    assert "4/4" in done.stdout and "s left" in done.stdout
    figures: dict[str, Any] = json.loads((unpacked / "figures.json").read_text())
    assert {row["file"] for row in figures["models"]} == {f"models/{n}.onnx" for n in ("base", "0000", "0002", "0003")}
    assert figures["machine"]["runtime"] == "onnxruntime" and 0.5 < figures["itself"]["value"] < 2
    result = run("bench", "planned", "--import", str(unpacked / "figures.json"), "-f", "json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["target"] == "bare" and len(facts["rows"]) == 4
    times = {row["trial"]: row["latency_ms"] for row in facts["rows"]}
    assert times[1] == times[3] and times[2] < times[0], "three quarters of the channels less is faster anywhere"
    chosen = run("pick", "planned", "--target", "bare", "--max", f"latency_ms={times[2] * 1.001}", "-f", "json")
    assert json.loads(chosen.stdout)["trial"] == 2, chosen.output


def test_a_device_without_the_runtime_is_told_how_to_get_it(unpacked: Path) -> None:
    done = _started(sys.executable, unpacked, "--runtime", "openvino", **{"-c": "openvino"})
    assert done.returncode == 4 and "pip install openvino" in done.stderr


def _started(python: str | Path, kit: Path, *words: str, **blocked: str) -> subprocess.CompletedProcess[str]:
    """The runner as a user starts it; `blocked`: a module that cannot be imported there."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [str(python), "run.py", *words]
    if blocked:
        script = f"import runpy, sys; sys.modules['{blocked['-c']}'] = None; sys.argv = {['run.py', *words]}; "
        command = [str(python), "-c", f"{script}runpy.run_path('run.py', run_name='__main__')"]
    return subprocess.run(command, cwd=kit, env=clean, capture_output=True, text=True, timeout=200)


def _bare_environment(folder: Path) -> Path:
    """A virtual environment that has the installed onnxruntime and what that asks for, by links, and nothing else."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python*/site-packages")
    for distribution in _with_what_it_needs("onnxruntime"):
        for name in {path.parts[0] for path in distribution.files or () if path.parts[0] != ".."}:
            (packages / name).symlink_to(Path(str(distribution.locate_file(name))))
    asked = (
        "from importlib.util import find_spec as f; print(*[bool(f(n)) for n in ('onnxruntime', 'torch', 'search')])"
    )
    found = subprocess.run([str(python), "-I", "-c", asked], capture_output=True, text=True, check=True).stdout
    assert found == "True False False\n"
    return python


def _with_what_it_needs(name: str) -> list[metadata.Distribution]:
    """A distribution and all that it requires, extras left out."""
    found: dict[str, metadata.Distribution] = {}
    open_names = [name]
    while open_names:
        one = open_names.pop()
        if one not in found:
            found[one] = metadata.distribution(one)
            needs = [need for need in found[one].requires or () if ";" not in need]
            open_names += [re.split(r"[^\w.-]", need, maxsplit=1)[0].lower() for need in needs]
    return list(found.values())
