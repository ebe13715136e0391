"""The file that a study's runtime is timed on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from objectives.runtimes.names import SUFFIXES, file_names
from search.config.sections import LatencySpec
from search.evaluate.timing.latency import export_timed, open_timed
from search.run_folder.artefact_files import discard, files_of, size_bytes
from search.run_folder.record import RunRecord
from tests.objectives.runtimes.contract import SIZE, network, skip_unless_installed


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch", "torchscript", "mnn"])
def test_it_is_of_the_runtime_and_known_by_name(runtime: str, tmp_path: Path) -> None:
    skip_unless_installed(runtime)
    spec, threads = LatencySpec(runtime=runtime), torch.get_num_threads()
    path = export_timed(network(), spec, tmp_path / "base", SIZE)
    assert path.name == f"base{SUFFIXES.get(runtime, '.onnx')}" and path.name in file_names("base")
    side = open_timed(spec, path, network(), SIZE)
    side[0].run()
    assert side[0].describe()["runtime"] == runtime
    discard(path)
    assert not list(tmp_path.iterdir())
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", file_names("base"))
def test_a_preparation_is_discarded_with_its_exported_base(name: str, tmp_path: Path) -> None:
    record = RunRecord(tmp_path / "run")
    (path := record.base_dir / name).parent.mkdir(parents=True)
    if "." in name:
        path.write_bytes(b"four")
    else:
        path.mkdir()
        (path / "model.bin").write_bytes(b"four")
    assert size_bytes(path) == 4 and all(file.is_file() for file in files_of(path))
    record.discard_preparation()
    assert not path.exists()
