"""A starter is written for any file that a user may have."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from search.commands.init import write_starter
from search.config.inputs.user_code import UserReference
from search.config.spec import load_spec
from search.config.yaml_source import parse_overrides
from search.errors import ConfigError
from tests.search.conftest import run

_NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="/")
    | st.sampled_from(" '\"[]{}:,*&@%#!|>-?~`=\\\n\t"),
    min_size=1,
    max_size=40,
).filter(lambda name: name not in (".", "..") and UserReference.parse(name) is None)


@settings(max_examples=150, deadline=None)
@given(name=_NAMES)
@example(name="my best (1).pt")
@example(name="a: b.pt")
@example(name="best #2.pt")
@example(name="[x]{y}*@%.pt")
@example(name="1e3")
@example(name="~")
@example(name="2024-13-45")
@example(name="größe 模型.pt")
def test_any_name_of_a_file_survives_from_init_to_the_study(name: str) -> None:
    with tempfile.TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as patch:
        folder = Path(temporary).resolve()
        patch.chdir(folder)
        (folder / name).touch()
        (folder / "data.yaml").touch()
        study = write_starter(Path("study.yaml"), **parse_overrides([f"model={name}", "data=data.yaml"]))
        spec = load_spec(study)
        assert spec.model == str(folder / name)
        assert load_spec(None, parse_overrides([f"model={name}", "data=data.yaml"])).data == str(folder / "data.yaml")


@pytest.mark.parametrize("name", ["a\x1b[31m.pt", "a\x7f.pt", "a\udcff.pt"])
def test_a_name_that_yaml_cannot_hold_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written in a study"):
        write_starter(tmp_path / "study.yaml", model=name)
    assert not (tmp_path / "study.yaml").exists()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "best.pt").touch()
    (tmp_path / "data.yaml").touch()
    return tmp_path


def test_any_key_of_a_study_takes_its_place_and_comments_stay(place: Path) -> None:
    words = [
        "search.trials=50",
        "search.trial_minutes=5",
        "imgsz=320",
        "budgets.edge.latency_ms=3",
        "budgets.tiny.size_mb=1",
    ]
    words += [
        "latency.threads=4",
        "objectives=[map50_95, size_mb]",
        "track=[jsonl]",
        "storage=null",
        "space.groups=['model.4.*']",
    ]
    keys = parse_overrides([*words, "constraints.latency_ms=<=8"]) | {"notify.command": "mail -s 'done # 1' me"}
    study = write_starter(Path("study.yaml"), **keys)
    spec = load_spec(study)
    assert (spec.search.trials, spec.search.trial_minutes, spec.search.hours) == (50, 5, 9)
    assert spec.imgsz == 320 and spec.latency.threads == 4 and spec.objectives == ("map50_95", "size_mb")
    assert spec.budgets == {"edge": {"latency_ms": 3}, "tiny": {"size_mb": 1}} and spec.track == ("jsonl",)
    assert spec.space.groups == ("model.4.*",) and spec.constraints == {"latency_ms": "<=8"}
    assert spec.notify.command == "mail -s 'done # 1' me"
    text = study.read_text()
    assert "  trials: 50\n" in text and "imgsz: 320              # what the model was trained at" in text
    assert text.count("#") >= write_starter(Path("plain.yaml")).read_text().count("#") - 2


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("search.trails=5", "did you mean trials"),
        ("imgsz=100", "not a multiple of 32"),
        ("objectivs=x", "did you mean objectives"),
    ],
)
def test_a_key_that_is_none_is_refused_before_a_file_is_there(word: str, expected: str, place: Path) -> None:
    with pytest.raises(ConfigError, match=expected):
        write_starter(Path("study.yaml"), **parse_overrides([word]))
    assert not (place / "study.yaml").exists()


def test_the_remark_names_the_folder_of_the_run(place: Path) -> None:
    for number, (keys, folder) in enumerate([({}, "runs/prune/best"), ({"name": "foo"}, "runs/prune/foo")]):
        text = write_starter(Path(f"{number}.yaml"), **keys).read_text()
        assert f"name: {folder.rpartition('/')[2]}  # the run goes to {folder}\n" in text
    text = write_starter(Path("there.yaml"), name="foo", project="/tmp/x").read_text()
    assert "name: foo  # the run goes to /tmp/x/foo\n" in text


def test_path_is_no_key_of_a_study(place: Path) -> None:
    said = run("init", "path=x.yaml")
    assert said.exit_code == 2 and "path" in said.stderr and "internal" not in said.stderr
    assert not list(place.glob("*study*"))


def test_several_models_are_written_as_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("large, old.pt", "small.pt", "data.yaml"):
        (tmp_path / name).write_text("path: .\n")
    assert run("init", "model=['large, old.pt', small.pt]").exit_code == 0
    spec = load_spec(tmp_path / "study.yaml")
    assert [Path(model).name for model in spec.models] == ["large, old.pt", "small.pt"]


def test_a_study_for_a_target_leaves_to_the_pack_what_it_sets_and_forbids(place: Path) -> None:
    done = run("init", "model=best.pt", "data=data.yaml", "target=imx500", "space.ratio=[0.1, 0.6]")
    assert done.exit_code == 0, done.output
    text = (place / "study.yaml").read_text()
    assert "\ntarget: imx500  # Sony IMX500" in text and "latency: {threads: 1, batch: 1}" in text
    assert not any(f"\n{key}:" in text for key in ("  round_to", "  depth", "  levels", "baselines"))
    spec = load_spec(place / "study.yaml")
    assert spec.target is not None and spec.target.kept == {} and spec.space.ratio == (0.1, 0.6)
    assert spec.space.precision == ("int8",) and not spec.space.depth and not spec.space.levels


def test_a_study_for_a_target_of_ones_own_names_it_as_it_lies(place: Path) -> None:
    (place / "away").mkdir()
    for name in ("best.pt", "data.yaml", "mine.yaml"):
        (place / "away" / name).write_text("device: board\nstudy: {space: {round_to: 4}}\n")
    done = run("init", "away/study.yaml", "model=best.pt", "data=data.yaml", "target=mine.yaml", "space.depth=false")
    assert done.exit_code == 0, done.output
    spec = load_spec(place / "away" / "study.yaml")
    assert spec.target is not None and spec.space.round_to == 4 and not spec.space.depth and spec.space.levels
    assert run("init", "other.yaml", "model=best.pt", "target=nothing.yaml").exit_code == 2
