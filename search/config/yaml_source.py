"""YAML read safely, with the line of every key, and `key=value` overrides in the same notation.

Yields plain data only (safe loader semantics). Duplicate keys, anchors and files above `MAX_BYTES` are refused, since
they make a study mean something other than it seems to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from search.errors import ConfigError

MAX_BYTES = 256 * 1024
Path_ = tuple[str | int, ...]
"""Keys and list positions from the root to a value."""


# SafeLoader in which 1e-4 is a number, as in YAML 1.2 and JSON; YAML 1.1 makes it a string.
_Loader: Any = type("_Loader", (yaml.SafeLoader,), {})
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


@dataclass(frozen=True)
class Source:
    """A parsed document: its data and the line of each key.

    Attributes:
        data: the mapping as plain Python values.
        lines: path of a key -> line number, counted from 1.
        name: the document's name in messages.
    """

    data: dict[str, Any]
    lines: Mapping[Path_, int]
    name: str

    def where(self, location: Path_) -> str:
        """Return `study.yaml line 7`: the line of the deepest part of `location` that the document has."""
        for end in range(len(location), 0, -1):
            line = self.lines.get(location[:end])
            if line is not None:
                return f"{self.name} line {line}"
        return self.name


def read(path: Path) -> Source:
    """Parse a YAML file whose root is a mapping.

    Raises:
        ConfigError: missing, too large, not UTF-8, not YAML, duplicate keys, anchors, or not a mapping.
    """
    if not path.is_file():
        raise ConfigError(f"no study file at {path}", expected="a YAML file", next_command="paretoprune init")
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES // 1024} KiB", expected="a study of some lines")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text", expected="a YAML file") from error
    return parse(text, path.name)


def parse(text: str, name: str = "study.yaml") -> Source:
    """Parse YAML text whose root is a mapping; an empty document is an empty mapping."""
    _refuse_aliases(text, name)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        data = None if node is None else _construct(loader, node, name)
    except yaml.YAMLError as error:
        raise _syntax_error(error, name) from error
    finally:
        loader.dispose()
    if data is None:
        return Source({}, {}, name)
    if not isinstance(data, dict):
        raise ConfigError(f"{name} holds a {type(data).__name__}", where=name, expected="key: value lines")
    return Source(data, {path: line for _, path, line in _entries(node)}, name)


def parse_value(text: str) -> Any:
    """Parse the value of an override as YAML; anything else (for example `>=0.4`) is a string."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return text if node is None else loader.construct_document(node)
    except yaml.YAMLError:
        return text
    finally:
        loader.dispose()


def parse_overrides(items: Iterable[str]) -> dict[str, Any]:
    """Parse `["search.trials=50"]` to {"search.trials": 50}.

    Raises:
        ConfigError: an item without `=` or without a key, or a key given twice.
    """
    found: dict[str, Any] = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not sign or not key.strip():
            raise ConfigError(f"{item!r} is not key=value", where="command line", expected="search.trials=50")
        if key in found:
            raise ConfigError(f"{key} is given twice", where="command line", expected="one value")
        found[key.strip()] = parse_value(value)
    return found


def merge(data: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Copy `data` with dotted keys set; a dotted key through something that is no mapping replaces it."""
    merged = {key: dict(value) if isinstance(value, dict) else value for key, value in data.items()}
    for dotted, value in overrides.items():
        head, _, rest = dotted.partition(".")
        if not rest:
            merged[head] = value
            continue
        section = merged.get(head)
        merged[head] = merge(section if isinstance(section, dict) else {}, {rest: value})
    return merged


def _refuse_aliases(text: str, name: str) -> None:
    try:
        for token in yaml.scan(text, Loader=_Loader):
            if isinstance(token, yaml.AliasToken):
                line = token.start_mark.line + 1
                raise ConfigError("anchors and aliases are not supported", where=f"{name} line {line}")
    except yaml.YAMLError as error:
        raise _syntax_error(error, name) from error


def _construct(loader: Any, node: yaml.Node, name: str) -> Any:
    seen: set[tuple[int, Path_]] = set()
    repeated = []
    for parent, path, line in _entries(node):
        if (parent, path) in seen:
            repeated.append(f"line {line}: {path[-1]}")
        seen.add((parent, path))
    if repeated:
        raise ConfigError("a key is given twice", where=f"{name} {'; '.join(repeated)}", expected="each key once")
    return loader.construct_document(node)


def _entries(node: yaml.Node, path: Path_ = ()) -> Iterator[tuple[int, Path_, int]]:
    """Yield (identity of the mapping or list, path, line) of every key and item, depth first."""
    children: list[tuple[str | int, yaml.Node, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        children = [(str(key.value), key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = [(index, item, item) for index, item in enumerate(node.value)]
    for part, marked, value in children:
        yield id(node), (*path, part), marked.start_mark.line + 1
        yield from _entries(value, (*path, part))


def _syntax_error(error: yaml.YAMLError, name: str) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    where = name if mark is None else f"{name} line {mark.line + 1}, column {mark.column + 1}"
    problem = getattr(error, "problem", None) or str(error)
    return ConfigError(
        f"{name} is not YAML: {problem}",
        where=where,
        expected='key: value lines; quote values that begin with < or >, as in latency_ms: "<=8"',
    )
