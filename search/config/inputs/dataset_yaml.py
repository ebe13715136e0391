"""Safe reading of an untrusted dataset YAML: plain data only, of bounded size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from search.errors import ConfigError

MAX_BYTES = 4_000_000
"""LVIS, with 1,203 classes and their synonyms, has 50 kB."""
MAX_VALUES = 200_000
"""Values after aliases are followed: nine anchors of nine aliases each are a billion of them."""
_UNREADABLE = (yaml.YAMLError, ValueError, LookupError, AttributeError, OverflowError, RecursionError)
"""What PyYAML raises: it lets an error of Python's own through where a date or a number is none."""


def read_data_yaml(path: Path) -> Any:
    """Return the content of a dataset YAML as plain values.

    Raises:
        ConfigError: it is not YAML, larger than MAX_BYTES, or holds more than MAX_VALUES.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise _refused(path, f"has {size:,} bytes", f"a dataset YAML of at most {MAX_BYTES:,}")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except _UNREADABLE as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise _refused(path, f"is not YAML: {first}", "a dataset YAML") from error
    try:
        count = _count(data, {})
    except RecursionError as error:
        raise _refused(path, "contains itself", "a dataset YAML") from error
    if count > MAX_VALUES:
        raise _refused(path, f"unfolds to {count:,} values", f"a dataset YAML of at most {MAX_VALUES:,}")
    return data


def _count(value: Any, known: dict[int, int]) -> int:
    """Count the values of a tree with shared branches; each branch is counted once and multiplied."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        items = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count(item, known) for item in items)
    return known[id(value)]


def _refused(path: Path, what: str, expected: str) -> ConfigError:
    return ConfigError(f"{path} {what}", where="data", expected=expected)
