"""Values of `key=value` words of a command: one reader per kind, which says what it expected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from search.config.inputs.user_code import OwnReference, located
from search.errors import ConfigError, near_miss

Reader = Callable[[str, Any], Any]


def read_keys(keys: Mapping[str, Any], readers: Mapping[str, Reader]) -> dict[str, Any]:
    """Every key by its reader. Raises ConfigError for an unknown key, with the near miss."""
    for key in keys:
        if key not in readers:
            known = ", ".join(readers)
            raise ConfigError(
                f"unknown key {key!r}", where="command line", expected=known, near=near_miss(key, readers)
            )
    return {key: readers[key](key, value) for key, value in keys.items()}


def share(key: str, value: object) -> float:
    """0 to below 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ConfigError(f"{value!r} is not a {key}", where=f"{key}=", expected="0 to below 1")
    return float(value)


def fall(key: str, value: object) -> float:
    """A fall of a metric that is a fraction: 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigError(f"{value!r} is not a fall of the metric", where=f"{key}=", expected="0 to 1, such as 0.05")
    return float(value)


def count(key: str, value: object) -> int:
    """A whole number above 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{value!r} is not a whole number above 0", where=f"{key}=", expected="for example 8")
    return value


def positive(key: str, value: object) -> float:
    """A number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigError(f"{value!r} is not a number above 0", where=f"{key}=", expected="for example 6")
    return float(value)


def seed(key: str, value: object) -> int:
    """A whole number from 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{value!r} is not a whole number from 0", where=f"{key}=")
    return value


def size(key: str, value: object) -> int:
    """An input size in pixels."""
    found = count(key, value)
    if found % 32:
        raise ConfigError(f"{found} is not a multiple of 32, the stride of the models", where=f"{key}=")
    return found


def word(key: str, value: object) -> str:
    """Any text."""
    return str(value)


def one_of(*known: str) -> Reader:
    """A reader of one of the `known` words."""

    def read(key: str, value: object) -> str:
        if value not in known:
            near = near_miss(str(value), known)
            raise ConfigError(f"no {key} {value!r}", where=f"{key}=", expected=" or ".join(known), near=near)
        return str(value)

    return read


def names(key: str, value: object) -> tuple[str, ...]:
    """`a,b`, `[a, b]` or one name."""
    found = [str(item) for item in value] if isinstance(value, list) else str(value).split(",")
    return tuple(name.strip() for name in found if name.strip())


def counts(key: str, value: object) -> dict[str, int]:
    """`a:1,b:2` or `{a: 1, b: 2}`."""
    pairs = value.items() if isinstance(value, Mapping) else (item.rpartition(":")[::2] for item in names(key, value))
    try:
        found = {str(name).strip(): int(number) for name, number in pairs}
    except ValueError:
        found = {"": 0}
    if not all(name and number > 0 for name, number in found.items()):
        raise ConfigError(f"{value!r} does not count heads", where=f"{key}=", expected=f"{key}=model.10.m.0.attn:1")
    return found


def file(key: str, value: object) -> Path:
    """A file that is there."""
    path = Path(str(value))
    if not path.is_file():
        raise ConfigError(f"no such file: {path}", where=f"{key}=")
    return path


def network(key: str, value: object) -> Path:
    """A checkpoint that is there, or a network of one's own: `module.py:function`, its path made absolute."""
    own = OwnReference.parse(value)
    if own is None:
        return file(key, value)
    file(key, own.file.expanduser())
    return Path(located(str(value), Path.cwd()))


def present(key: str, value: object) -> Path:
    """A file or folder that is there."""
    path = Path(str(value))
    if not path.exists():
        raise ConfigError(f"no such file: {path}", where=f"{key}=", expected="a data YAML, or a folder to classify")
    return path


def place(key: str, value: object) -> Path:
    """A path that need not be there."""
    return Path(str(value))
