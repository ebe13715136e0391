"""Report all faults of a study in one message: file, line, key, what was expected, the nearest key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from search.config.yaml_source import Path_, Source
from search.errors import ConfigError, near_miss


def faults_error(
    error: ValidationError, source: Source, overrides: Mapping[str, Any], root: type[BaseModel]
) -> ConfigError:
    """Build one ConfigError listing all faults that pydantic found, in the order of the file."""
    rows = [_row(detail, source, overrides, root) for detail in error.errors()]
    count = len(rows)
    title = "the study has a fault:" if count == 1 else f"the study has {count} faults:"
    return ConfigError("\n".join([title, *rows]), next_command="paretoprune init writes a commented study.yaml")


def _row(detail: ErrorDetails, source: Source, overrides: Mapping[str, Any], root: type[BaseModel]) -> str:
    location: Path_ = tuple(detail["loc"])
    where = _where(location, source, overrides)
    return f"  {where}: {_dotted(location)}: {_sentence(detail, location, root)}"


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
        return str(detail["ctx"]["error"])
    found = detail["input"]
    message = detail["msg"][:1].lower() + detail["msg"][1:]
    return f"{message}, found {found!r}" if not isinstance(found, dict) else message


def _unknown(location: Path_, root: type[BaseModel]) -> str:
    key = str(location[-1])
    siblings = list(_section(location[:-1], root).model_fields)
    near = near_miss(key, siblings) or _elsewhere(key, root)
    hint = f"did you mean {near}? " if near else ""
    return f"unknown key; {hint}known here: {', '.join(siblings)}"


def _section(location: Path_, root: type[BaseModel]) -> type[BaseModel]:
    section = root
    for part in location:
        annotation = section.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        section = annotation
    return section


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
            yield name, name
