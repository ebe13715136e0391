"""docs/python.md: its code runs from top to bottom, and names nothing that is not there."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pruning import Plan
from pruning.graph import ChannelGraph
from search import Callback, PickedTrial, Study
from tests.pruning import zoo
from tests.tiny_data import make_tiny_data

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
KINDS = {"study": Study, "picked": PickedTrial, "graph": ChannelGraph, "plan": Plan}
"""What the variables of the page are."""
CHEAPER = {
    '{"trials": 50, "hours": 3}': '{"trials": 1, "sampler": "random"}',
    'recover={"epochs": 3}': 'recover={"epochs": 0}, latency={"seconds": 0.2}, device="cpu", baselines=[]',
    '"latency_ms": 5}': '"latency_ms": 500}',
    "max_drop=0.02": "max_drop=1.0",
}
"""What makes the page take seconds instead of a night, on a tiny model and a machine that others use."""


def blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def faults(code: str) -> Iterator[str]:
    """Names that are imported, called or overridden and do not exist."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            yield from (f"{node.module}.{one.name}" for one in node.names if not hasattr(module, one.name))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in KINDS:
            kind = KINDS[node.value.id]
            known = {*dir(kind), *getattr(kind, "__annotations__", {}), "spec", "record"}
            yield from () if node.attr in known else (f"{node.value.id}.{node.attr}",)
        elif isinstance(node, ast.ClassDef):
            for method in (one for one in node.body if isinstance(one, ast.FunctionDef)):
                there = getattr(Callback, method.name, None)
                asked = [argument.arg for argument in method.args.args]
                if there is None or list(inspect.signature(there).parameters) != asked:
                    yield f"{node.name}.{method.name}"


def test_the_page_names_what_exists() -> None:
    code = blocks(PAGE.read_text())
    assert len(code) == 6
    assert [fault for block in code for fault in faults(block)] == []
    assert all(word in "\n".join(code) for word in CHEAPER)


def test_the_guard_can_fail() -> None:
    wrong = "from search import Studdy\nstudy.frnt()\nclass A(Callback):\n    def on_trial_ended(self, study): ...\n"
    assert len(list(faults(wrong + "class B(Callback):\n    def on_trial_end(self, trial): ...\n"))) == 4


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from pruning.checkpoints.checkpoint import save_model

    monkeypatch.chdir(tmp_path)
    save_model(zoo.for_tiny_data("yolov8n.yaml"), tmp_path / "best.pt")
    shutil.copy(make_tiny_data(tmp_path / "data"), tmp_path / "data.yaml")
    shutil.copy(next((tmp_path / "data").rglob("*.png")), tmp_path / "image.png")
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(PAGE.read_text()):
        for word, cheap in CHEAPER.items():
            block = block.replace(word, cheap)
        exec(compile(block, str(PAGE), "exec"), names)
    said = capsys.readouterr().out
    for expected in ("trial 0: complete", "on the front: 0", "finished", "report.html", "onnx"):
        assert expected in said, said
    assert list((tmp_path / "runs" / "prune" / "best" / "picks" / "edge").glob("*.onnx"))
    assert (tmp_path / "small.pt").is_file()
