"""YAML read safely: whatever the text, plain data or one message."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.config.yaml_source import MAX_DEPTH, clipped, parse, parse_overrides, parse_path, parse_value, read
from search.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: !!int abc", "tags are not supported"),
        ("a: !!float", "tags are not supported"),
        ("a: !local b", "tags are not supported"),
        ("a: &x 1", "anchors"),
        ("a: 0x_", "'0x_' is not a number"),
        ("a: " + "9" * 5000, "a number of 5000 characters is too large"),
        ("a: 0x" + "f" * 300, "is too large"),
        ("a: 9223372036854775808", "is too large"),
        ("a: 1" + ":1" * 190 + ":1.0", "is not a number"),
        ("a: " + "{a: " * 900 + "1" + "}" * 900, f"nested more than {MAX_DEPTH} deep"),
        ("[" * 40_000, f"nested more than {MAX_DEPTH} deep"),
        ("- " * 40_000, f"nested more than {MAX_DEPTH} deep"),
        ('a: "x\\0y"', r"control character '\\x00'"),
        ('"\\e[31mred": 1', r"control character '\\x1b'"),
        ("? [a]\n: 1", "unhashable key"),
    ],
)
def test_what_python_would_raise_is_a_fault_of_the_file(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(text)


def test_dates_merge_keys_and_equal_signs_are_text() -> None:
    assert parse("a: 2024-13-45\nb: 2024-01-05\nc: =\n<<: {d: 1}").data == {
        "a": "2024-13-45",
        "b": "2024-01-05",
        "c": "=",
        "<<": {"d": 1},
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5), ("1e-4", 1e-4), ("[a, 1]", ["a", 1]), ("null", None), (">=0.4", ">=0.4"), ("*.cv1", "*.cv1")],
)
def test_an_override_is_yaml_or_text(text: str, value: object) -> None:
    assert parse_value(text) == value


@pytest.mark.parametrize("text", ["mail -s 'run # 1' me", "curl x # done", "a\t#b"])
def test_a_word_has_no_comments(text: str) -> None:
    """YAML would cut it there, and nobody would know."""
    assert parse_overrides([f"notify.command={text}"]) == {"notify.command": text}
    assert parse_value(f"[{text.split()[0]}, 'a # b']") == [text.split()[0], "a # b"]


@pytest.mark.parametrize("text", ["!!int abc", "*x", "&x", "[" * 9000, "0x_", "9" * 5000, "a: b: c", "2024-13-45"])
def test_an_override_that_yaml_refuses_is_text(text: str) -> None:
    assert parse_value(text) == text


@pytest.mark.parametrize("name", ["my: best.pt", "best #2.pt", "2024", "[a].pt", "'x'.pt", "1e3", "- a.pt", "~x"])
def test_the_name_of_a_file_is_no_yaml(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).touch()
    assert parse_path(name) == name
    assert parse_overrides([f"model={name}"]) == {"model": name}


def test_a_name_may_be_quoted_and_a_default_be_asked_for() -> None:
    assert parse_overrides(["model='my best.pt'", "name=null", "data=2024"]) == {
        "model": "my best.pt",
        "name": None,
        "data": "2024",
    }


def test_a_key_is_not_nested_without_end() -> None:
    with pytest.raises(ConfigError, match="is not key=value"):
        parse_overrides(["a" + ".a" * 2000 + "=1"])


def test_no_regular_file_is_read_as_a_study(tmp_path: Path) -> None:
    for path in (Path("/dev/zero"), tmp_path, Path("x" * 300), Path("a\0b")):
        with pytest.raises(ConfigError, match="no study file"):
            read(path)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8") | st.sampled_from("[]{}:,-?!&*'\"|>%@`#\n .0_x1e"), max_size=60))
def test_any_text_is_plain_data_or_one_message(text: str) -> None:
    try:
        data = parse(text).data
    except ConfigError as error:
        assert str(error)
    else:
        assert isinstance(data, dict)


def test_a_long_value_is_clipped_in_messages() -> None:
    assert clipped("ab") == "'ab'"
    assert clipped("a" * 300).endswith("... (302 characters)") and len(clipped("a" * 300)) < 110
