"""Network slimming: the notebook runs and says what is committed; what is called pruned is smaller."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from search.config.spec import load_spec

STUDY = Path(__file__).parents[2] / "studies" / "slimming"


def texts(notebook: Any) -> list[str]:
    """What the code cells printed."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [str(output.get("text", "")) for output in outputs]


@pytest.mark.filterwarnings("ignore")  # of the kernel and its sockets
def test_the_notebook_runs_and_is_the_one_that_is_committed() -> None:
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    from studies.slimming.notebook import NOTEBOOK, build, execute

    committed = nbformat.read(NOTEBOOK, as_version=4)
    assert NOTEBOOK.stat().st_size < 100_000
    assert [cell.source for cell in committed.cells] == [cell.source for cell in build().cells]
    assert texts(execute(build())) == texts(committed), "run python studies/slimming/notebook.py"
    assert any("3,012,798 parameters" in text for text in texts(committed))


@pytest.mark.filterwarnings("ignore")
def test_a_cell_that_fails_is_an_error() -> None:
    pytest.importorskip("ipykernel")
    nbclient = pytest.importorskip("nbclient")
    from studies.slimming.notebook import build, execute

    with pytest.raises(nbclient.exceptions.CellExecutionError, match="nothing was removed"):
        execute(build((("code", "assert False, 'nothing was removed'"),)))


def test_what_is_called_pruned_is_smaller() -> None:
    if not (STUDY / "compare.json").is_file():
        assert "not run yet" in (STUDY / "README.md").read_text()
        return
    models = json.loads((STUDY / "compare.json").read_text())
    base, *rows = [row for row in models if row["model"].endswith(".pt")]
    exported = [row for row in models if row["model"].endswith(".onnx")]
    pruned, tuned = rows[::2], rows[1::2]
    assert len(pruned) == len(tuned) > 0
    sizes = [row["params_m"] for row in (base, *pruned)]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == len(sizes)
    assert [row["params_m"] for row in tuned] == [row["params_m"] for row in pruned], "it grew back"
    assert len(exported) == 2 and exported[0]["figures"]["map50_95"] == pytest.approx(
        tuned[-1]["figures"]["map50_95"], abs=0.002
    )
    for row in (*tuned, *exported):
        assert f"{row['figures']['map50_95']:.3f}" in (STUDY / "README.md").read_text()


def test_the_search_starts_from_the_sparse_model() -> None:
    assert load_spec(STUDY / "study.yaml", check_paths=False).space.importance == "bn_gamma"
