"""Parse the words after a command: at most one study or run, and key=value overrides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from search.config import yaml_source
from search.config.inputs.paths import absolute, exists
from search.config.yaml_source import clipped
from search.errors import ConfigError, near_miss

FORMATS = ("table", "json", "yaml")
"""Formats of a command's output."""


def check_form(form: str) -> None:
    """Raise ConfigError for an unknown format, before any work for it."""
    if form not in FORMATS:
        raise ConfigError(f"no format {form!r}", where="-f", expected=", ".join(FORMATS))


def split(words: list[str] | None) -> tuple[str | None, dict[str, Any]]:
    """Return (study or run, overrides): the first word without `=` is the study or run."""
    plain = [word for word in words or [] if "=" not in word or exists(Path(word))]
    if len(plain) > 1:
        raise ConfigError(f"{plain[1]!r} is not key=value", where="command line", expected="one study or run")
    keys = yaml_source.parse_overrides(word for word in words or [] if word not in plain)
    return (plain[0] if plain else None), keys


def study_and_keys(words: list[str] | None) -> tuple[Path | None, dict[str, Any]]:
    """Return (study file, overrides); study.yaml of this folder if neither a file nor a model is named."""
    target, keys = split(words)
    if target is None and "model" not in keys:
        target = "study.yaml"
    return (None if target is None else Path(target)), keys


def only_keys(words: list[str] | None, known: tuple[str, ...]) -> dict[str, Any]:
    """Return overrides among `known`. Raises ConfigError with the nearest name for others."""
    target, keys = split(words)
    for key in [target] if target else [key for key in keys if key not in known]:
        raise ConfigError(
            f"unknown key {key!r}", where="command line", expected=", ".join(known), near=near_miss(key, known)
        )
    return keys


_PATHS = {"model", "data", "base", "plan"}


def file_and_keys(words: list[str] | None) -> dict[str, Any]:
    """Merge key=value words with those of a YAML file if the first word is one; words take precedence.

    Its section `recover: {epochs: 2}` is `recover.epochs=2`; its paths are relative to it.

    Raises:
        ConfigError: the file cannot be read, or the first word is something else.
    """
    target, keys = split(words)
    if target is None:
        return keys
    path = Path(target)
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{target!r} is not key=value", expected="key=value, or a YAML file of such keys")
    said = dict(yaml_source.read(path).data)
    recover = said.pop("recover", None) or {}
    if not isinstance(recover, dict):
        raise ConfigError(f"recover is {clipped(recover)}", where=path.name, expected="recover: {epochs: 2}")
    odd = [key for key in (*said, *recover) if not isinstance(key, str)]
    if odd:
        raise ConfigError(f"unknown key {clipped(odd[0])}", where=path.name, expected="keys that are words, as ratio")
    said |= {f"recover.{key}": value for key, value in recover.items()}
    if isinstance(said.get("ratios"), str):
        said["ratios"] = str(absolute(Path(said["ratios"]), path.parent))
    for key in _PATHS & said.keys():
        said[key] = str(absolute(Path(str(said[key])), path.parent))
    return {**said, **keys}
