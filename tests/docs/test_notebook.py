"""The notebook for Colab: five cells, and they run."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from notebooks import first_search

ROOT = Path(__file__).parents[2]
CHEAPER = {
    "make_data.py": "make_data.py --train 24 --val 12",
    "search.trials=10 search.hours=0.15 recover.epochs=1": "search.trials=1 search.sampler=random recover.epochs=0 "
    "latency.seconds=0.2 baselines=[]",
    "device=auto": "device=cpu",
    "latency_ms=80%": "latency_ms=500%",
    "format=onnx": "format=onnx --max-drop 1",
}
"""What makes the cells take seconds each, and the pick independent of what a machine is busy with."""


def test_the_committed_notebook_is_what_is_generated() -> None:
    nbformat = pytest.importorskip("nbformat")
    committed = nbformat.read(first_search.NOTEBOOK, as_version=4)
    assert committed == first_search.build(), "run python notebooks/first_search.py"
    code = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert len(code) == 5 and code[0].metadata.tags == [first_search.INSTALL]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the kernel and its sockets
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ipykernel")
    nbclient = pytest.importorskip("nbclient")
    shutil.copytree(ROOT / "studies" / "digits", tmp_path / "studies" / "digits", ignore=shutil.ignore_patterns("data"))
    shutil.copy(ROOT / "studies" / "made_folder.py", tmp_path / "studies")
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = first_search.build()
    words = "\n".join(cell.source for cell in notebook.cells)
    assert all(word in words for word in CHEAPER)
    for cell in notebook.cells:
        for word, cheap in CHEAPER.items():
            cell.source = cell.source.replace(word, cheap)
    client = nbclient.NotebookClient(
        notebook,
        timeout=500,
        kernel_name="python3",
        skip_cells_with_tag=first_search.INSTALL,
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()
    said = "".join(str(output.get("text", "")) for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "weights.onnx" in said and "passed" in said, said
    run = tmp_path / "runs" / "prune" / "first"
    assert (run / "report.html").is_file() and list(run.glob("picks/*/*.onnx"))
