"""The tutorial, typed: every command of docs/tutorial.md in its order, in a fresh folder, on a tiny model."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.pruning import zoo
from tests.search.conftest import run
from tests.tiny_data import make_tiny_data

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
CHEAPER = {
    "search": ["search.trials=1", "search.sampler=random", "recover.epochs=0", "latency.seconds=0.2", "device=cpu"],
    "finetune": ["epochs=1", "batch=4"],
    "export": ["quantize=32"],  # an untrained network answers nothing that INT8 could keep, and is refused
    "compare": ["seconds=0.2"],
}
"""What makes each command take a second instead of a night; everything else is as the page has it."""


def typed(text: str) -> list[list[str]]:
    """The words of each command that stands alone in a block."""
    return [shlex.split(line)[1:] for line in re.findall(r"^```\n(paretoprune .+)\n```$", text, re.MULTILINE)]


def cheaper(words: list[str]) -> list[str]:
    more = CHEAPER.get(words[0], [])
    changed = {key.partition("=")[0] for key in more}
    return [word for word in words if word.partition("=")[0] not in changed] + more


@pytest.mark.slow
def test_every_command_works_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pruning.checkpoints.checkpoint import save_model

    monkeypatch.chdir(tmp_path)
    save_model(zoo.for_tiny_data("yolov8n.yaml"), tmp_path / "best.pt")
    shutil.copy(make_tiny_data(tmp_path / "data"), tmp_path / "data.yaml")
    commands = typed(PAGE.read_text())
    names = [words[0] for words in commands]
    assert names == ["init", "check", "search", "report", "pick", "finetune", "export", "compare"]
    for words in commands:
        result = run(*cheaper(words))
        assert result.exit_code == 0, f"{' '.join(words)}\n{result.output}"
        if words[0] == "init":  # the page's budget for its own machine; here anything is faster
            study = tmp_path / "study.yaml"
            study.write_text(study.read_text().replace("baselines: [lower_size, int8]", "baselines: []"))
    (folder,) = (tmp_path / "runs" / "prune" / "best" / "picks").iterdir()
    made = {path.name for path in folder.iterdir()}
    assert {"model.pt", "finetuned.pt", "finetuned.onnx", "model_card.md"} <= made
