"""`prune groups=`: only the groups that were named; one after the other where data are given; keys from a file."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pruning.checkpoints.checkpoint import count_parameters, load_model
from search.commands.arguments import file_and_keys
from search.commands.prune import groupwise
from search.commands.prune.groupwise import GroupwisePruning, prune_groups
from search.errors import ConfigError
from tests.search.conftest import run


def scripted(monkeypatch: pytest.MonkeyPatch, metrics: list[float]) -> None:
    """Validation answers from a list: untrained weights have no accuracy of their own."""
    from objectives.accuracy import measure as accuracy

    answers = iter(metrics)

    def measure(*_: Any, **__: Any) -> Any:
        return SimpleNamespace(figures={"map50_95": SimpleNamespace(value=next(answers))})

    monkeypatch.setattr(accuracy, "measure_accuracy", measure)
    monkeypatch.setattr(groupwise, "run_isolated", lambda function, arguments, *_, **__: function(*arguments))


def order_for(tiny: Path, out: Path, **keys: Any) -> GroupwisePruning:
    words = {"model": tiny / "base.pt", "data": tiny / "data" / "data.yaml", "groups": "model.4.m.*.cv1", "ratio": 0.5}
    return GroupwisePruning.from_keys({**words, "imgsz": 64, "device": "cpu", "out": out, **keys})


def test_a_group_that_costs_too_much_stays_whole(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [0.5, 0.49, 0.1])
    facts = prune_groups(order_for(tiny, tmp_path / "out", max_drop=0.02))
    assert [(row["group"], row["accepted"]) for row in facts["groups"]] == [
        ("", True),
        ("model.4.m.0.cv1", True),
        ("model.4.m.1.cv1", False),
    ]
    small = load_model(facts["model"])
    assert small.get_submodule("model.4.m.0.cv1.conv").out_channels == 16
    assert small.get_submodule("model.4.m.1.cv1.conv").out_channels == 32
    assert count_parameters(small) == round(facts["params_m"]["after"] * 1e6) < round(facts["params_m"]["before"] * 1e6)
    table = list(csv.DictReader(Path(facts["table"]).read_text().splitlines()))
    assert [float(row["drop"]) for row in table] == pytest.approx([0, 0.01, 0.4])
    with pytest.raises(ConfigError, match="exists already"):
        prune_groups(order_for(tiny, tmp_path / "out"))


def test_nothing_that_may_go_leaves_the_model(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [0.5, 0.1])
    facts = prune_groups(order_for(tiny, tmp_path / "out", max_drop=0.02, groups="model.4.m.0.cv1"))
    base = load_model(tiny / "base.pt").state_dict()
    assert all(value.equal(base[name]) for name, value in load_model(facts["model"]).state_dict().items())


def test_the_command_validates_and_its_file_of_keys_is_read(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    keys = "model: base.pt\ndata: data/data.yaml\nimgsz: 64\nratio: 0.25\ngroups: [model.4.m.0.cv1]\nround_to: 1\n"
    (tiny / "batch.yaml").write_text(keys)
    made = run("prune", str(tiny / "batch.yaml"), "out=here", "device=cpu")
    assert made.exit_code == 0, made.output
    assert "1 of 1 groups: 32 channels to 24" in made.stdout and "paretoprune finetune here/pruned.pt" in made.stdout


def test_without_data_the_named_groups_go_at_once(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = (f"model={tiny / 'base.pt'}", "ratio=0.5", "imgsz=64", "groups=model.4.m.*.cv1", "-f", "json")
    result = run("prune", *words)
    assert result.exit_code == 0, result.output
    small, base = load_model(json.loads(result.stdout)["model"]), load_model(tiny / "base.pt")
    changed = {name for name, value in small.state_dict().items() if value.shape != base.state_dict()[name].shape}
    assert changed and all(name.startswith(("model.4.m.0", "model.4.m.1")) for name in changed)


def test_keys_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "steps.yaml").write_text("model: a.pt\nratio: 0.5\nrecover: {epochs: 2}\nout: runs/x\n")
    found = file_and_keys([str(tmp_path / "steps.yaml"), "ratio=0.3"])
    assert found == {"model": str(tmp_path / "a.pt"), "ratio": 0.3, "recover.epochs": 2, "out": "runs/x"}
    assert file_and_keys(["ratio=0.3"]) == {"ratio": 0.3}
    with pytest.raises(ConfigError, match="is not key=value"):
        file_and_keys(["best.pt"])


@pytest.mark.parametrize("text", ["0: [a]\nratio: 0.3", ".inf: best.pt", "recover: {5: 1}", "null: x"])
def test_a_key_of_a_file_that_is_no_word_is_unknown(tmp_path: Path, text: str) -> None:
    (tmp_path / "steps.yaml").write_text(text)
    with pytest.raises(ConfigError, match="unknown key"):
        file_and_keys([str(tmp_path / "steps.yaml")])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("data=data.yaml", "groups=model.4.*"), "ratio= needed to prune group by group"),
        (("data=data.yaml", "groups=model.4.*", "ratio=0.3", "steps=3"), "unknown key 'steps'"),
        (("max_drop=0.1", "groups=model.4.*", "ratio=0.3"), "data= needed"),
        (("plan=data.yaml", "groups=model.4.*"), "groups= is not allowed"),
    ],
)
def test_nonsense_is_refused_at_once(workplace: Path, words: tuple[str, ...], expected: str) -> None:
    result = run("prune", "model=best.pt", *words)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and expected in result.stderr


def test_a_pattern_that_matches_nothing_is_refused(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [0.5])
    with pytest.raises(ConfigError, match=r"no group matches 'model\.99\.\*'"):
        prune_groups(order_for(tiny, tmp_path / "out", groups="model.99.*"))
