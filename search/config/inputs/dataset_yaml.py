"""Safe reading of an untrusted dataset YAML: plain data only, of bounded size, by Ultralytics' own reader.

Its reader drops what is not UTF-8 and control characters, which files from other systems have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from search.errors import ConfigError

MAX_BYTES = 4_000_000
"""LVIS, with 1,203 classes and their synonyms, has 50 kB."""
MAX_VALUES = 200_000
"""Values after aliases are followed: nine anchors of nine aliases each are a billion of them."""
_UNREADABLE = (
    yaml.YAMLError,
    AssertionError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What Ultralytics' reader and PyYAML raise: errors of Python's own where a key is a list, or a date none."""


def read_data_yaml(path: Path) -> dict[str, Any]:
    """Return the content of a dataset YAML as plain values.

    Raises:
        ConfigError: no mapping in YAML, larger than MAX_BYTES, or it holds more than MAX_VALUES.
    """
    from ultralytics.utils import YAML

    size = path.stat().st_size
    if size > MAX_BYTES:
        raise _refused(path, f"has {size:,} bytes", f"a dataset YAML of at most {MAX_BYTES:,}")
    try:
        data: dict[str, Any] = YAML.load(path)
    except _UNREADABLE as error:
        raise _refused(path, f"is not YAML: {_said(error)}", "a dataset YAML") from error
    try:
        count = _count(data, {})
    except RecursionError as error:
        raise _refused(path, "contains itself", "a dataset YAML") from error
    if count > MAX_VALUES:
        raise _refused(path, f"unfolds to {count:,} values", f"a dataset YAML of at most {MAX_VALUES:,}")
    return data


def _said(error: Exception) -> str:
    """Return the fault without Ultralytics' advice, whose first line names the file only."""
    lines = [line.strip() for line in str(error).splitlines() if "ray.run" not in line and line.strip()]
    return " ".join(lines[:2]) or type(error).__name__


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
