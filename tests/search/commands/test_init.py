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


def test_several_models_are_written_as_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("large, old.pt", "small.pt", "data.yaml"):
        (tmp_path / name).write_text("path: .\n")
    assert run("init", "model=['large, old.pt', small.pt]").exit_code == 0
    spec = load_spec(tmp_path / "study.yaml")
    assert [Path(model).name for model in spec.models] == ["large, old.pt", "small.pt"]
