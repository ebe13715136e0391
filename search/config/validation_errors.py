"""Report all faults of a study in one message: file, line, key, what was expected, the nearest key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from search.config.yaml_source import Path_, Source, clipped
from search.errors import ConfigError, near_miss

MOST_ROWS = 40
"""Faults that one message lists."""
_MAY_HOLD_SECRETS = (("storage",), ("search", "artefacts"), ("search", "address"), ("notify",))
"""Keys whose value is never repeated in a message."""
_MOST_TEXT = 400
"""Characters of a fault that quotes what was found."""


def faults_error(
    error: ValidationError,
    source: Source,
    overrides: Mapping[str, Any],
    root: type[BaseModel],
    what: str = "study",
    next_command: str = "paretoprune init writes a commented study.yaml",
) -> ConfigError:
    """Build one ConfigError listing all faults that pydantic found, in the order of the file.

    Args:
        what: the file is, for the title.
    """
    details = error.errors()
    rows = [_row(detail, source, overrides, root) for detail in details[:MOST_ROWS]]
    count = len(details)
    title = f"the {what} has a fault:" if count == 1 else f"the {what} has {count} faults:"
    if count > MOST_ROWS:
        rows.append(f"  and {count - MOST_ROWS} more")
    return ConfigError("\n".join([title, *rows]), next_command=next_command)


def _row(detail: ErrorDetails, source: Source, overrides: Mapping[str, Any], root: type[BaseModel]) -> str:
    location: Path_ = tuple(detail["loc"])
    where = _where(location, source, overrides)
    return f"  {where}: {_cut(_dotted(location), 80)}: {_sentence(detail, location, root)}"


def _cut(text: str, most: int = _MOST_TEXT) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def _where(location: Path_, source: Source, overrides: Mapping[str, Any]) -> str:
    words = [str(part) for part in location]
    for end in range(len(words), 0, -1):
        if ".".join(words[:end]) in overrides:
            return "command line"
    return source.where(location)


def _dotted(location: Path_) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _sentence(detail: ErrorDetails, location: Path_, root: type[BaseModel]) -> str:
    if detail["type"] == "extra_forbidden":
        return _unknown(location, root)
    if detail["type"] == "missing":
        return "missing; expected a value here or on the command line as key=value"
    if detail["type"] == "value_error":
        return _cut(str(detail["ctx"]["error"]))
    found, secret = detail["input"], any(location[: len(path)] == path for path in _MAY_HOLD_SECRETS)
    message = _cut(detail["msg"][:1].lower() + detail["msg"][1:])
    return f"{message}, found {clipped(found)}" if not isinstance(found, dict) and not secret else message


def _unknown(location: Path_, root: type[BaseModel]) -> str:
    key = str(location[-1])
    siblings = [field.alias or name for name, field in _section(location[:-1], root).model_fields.items()]
    near = near_miss(key, siblings) or _elsewhere(key, root)
    hint = f"did you mean {near}? " if near else ""
    return f"unknown key; {hint}known here: {', '.join(siblings)}"


def _section(location: Path_, root: type[BaseModel]) -> type[BaseModel]:
    """Return the section at `location`, through mappings of sections such as `figures`."""
    annotation: Any = root
    for part in location:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            annotation = annotation.model_fields[str(part)].annotation
        else:
            annotation = get_args(annotation)[-1]
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else root


def _elsewhere(key: str, root: type[BaseModel]) -> str | None:
    """Return the full name of a key of another section: `trials` -> `search.trials`."""
    places = dict(_leaves(root))
    name = key if key in places else near_miss(key, places)
    return places[name] if name else None


def _leaves(root: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for name, field in root.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from ((leaf, f"{name}.{leaf}") for leaf in field.annotation.model_fields)
        else:
            yield field.alias or name, field.alias or name
