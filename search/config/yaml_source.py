"""YAML read safely, with the line of every key, and `key=value` overrides in the same notation.

Yields text, numbers, true, false, null, lists and mappings only. Duplicate keys, anchors, tags and files above
`MAX_BYTES` are refused, since they make a study mean something other than it seems to; a date is text, as in YAML 1.2.
What PyYAML would let through as an error of its own (a number that is none, endless nesting) is a fault of the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from search.config.inputs.paths import exists, is_file
from search.errors import ConfigError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
"""Levels of nesting; a study has four."""
MAX_DIGITS = 400
"""Characters of a number: the largest float has 309 digits."""
PATH_KEYS = ("model", "data", "base", "plan", "out", "name", "project", "target")
"""Keys of any command whose value is the name of a file or folder."""
Path_ = tuple[str | int, ...]
"""Keys and list positions from the root to a value."""

_COMMENT = re.compile(r"\s#")
_QUOTED_OR_FLOW = ("'", '"', "[", "{")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")
"""What no name and no command has; half a pair of UTF-16 stands for a byte that is no UTF-8."""
_PLAIN = tuple(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float"))


class _Loader(yaml.SafeLoader):
    """SafeLoader without dates and merge keys, in which 1e-4 is a number, as in YAML 1.2 and JSON."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own attribute
        first: [(tag, pattern) for tag, pattern in known if tag in _PLAIN]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> str:
        text = str(super().construct_scalar(node))
        control = _CONTROL.search(text)
        if control is not None:
            raise _unreadable(node, f"the control character {control.group()!r} has no place in a text")
        return text

    def whole_number(self, node: yaml.ScalarNode) -> int:
        """Construct an integer of at most 63 bits: what the libraries behind a study can hold."""
        try:
            number = self.construct_yaml_int(node) if len(node.value) <= MAX_DIGITS else None
        except ValueError:  # 0x_ looks like a number and has no digits
            raise _unreadable(node, f"{clipped(node.value)} is not a number") from None
        if number is None or abs(number) >= 2**63:
            raise _unreadable(node, f"a number of {len(node.value)} characters is too large")
        return number

    def real_number(self, node: yaml.ScalarNode) -> float:
        """Construct a float; one that is too large is infinite, which the study's own checks refuse."""
        try:
            number = self.construct_yaml_float(node) if len(node.value) <= MAX_DIGITS else None
        except (ValueError, OverflowError):
            raise _unreadable(node, f"{clipped(node.value)} is not a number") from None
        if number is None:
            raise _unreadable(node, f"a number of {len(node.value)} characters is too long")
        return number


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.whole_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.real_number)


def _unreadable(node: yaml.Node, problem: str) -> ConstructorError:
    return ConstructorError(None, None, problem, node.start_mark)


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
    if not is_file(path):
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
    try:
        _refuse_misleading(text, name)
        node, data = _composed(text, lambda node: _refuse_repeated(node, name))
    except yaml.YAMLError as error:
        raise _syntax_error(error, name) from error
    if data is None:
        return Source({}, {}, name)
    if node is None or not isinstance(data, dict):
        raise ConfigError(f"{name} holds a {type(data).__name__}", where=name, expected="key: value lines")
    return Source(data, {path: line for _, path, line in _entries(node)}, name)


def parse_value(text: str) -> Any:
    """Parse the value of an override as YAML; anything else (for example `>=0.4`, `*.cv1`) is a string.

    A word of the command line has no comments: `mail 'run # 1'` is the whole text, where YAML would cut it.
    """
    if _COMMENT.search(text) and not text.lstrip().startswith(_QUOTED_OR_FLOW):
        return text
    try:
        _refuse_misleading(text, "command line")
        node, data = _composed(text)
    except (yaml.YAMLError, ConfigError):
        return text
    return text if node is None else data


def parse_path(text: str) -> Any:
    """Parse the value of a key that names a file or a run: what is there under that very name is not read as YAML.

    So are `my: best.pt`, `best #2.pt` and `2024`, which YAML would take for something else than text. `[s.pt, n.pt]`
    is a list of files.
    """
    if exists(Path(text)):
        return text
    found = parse_value(text)
    is_several = isinstance(found, list) and all(isinstance(one, str) for one in found)
    return found if found is None or is_several or isinstance(found, str) else text


def parse_overrides(items: Iterable[str]) -> dict[str, Any]:
    """Parse `["search.trials=50"]` to {"search.trials": 50}.

    Raises:
        ConfigError: an item without `=` or without a key, a key given twice, or one of more than MAX_DEPTH parts.
    """
    found: dict[str, Any] = {}
    for item in items:
        before, sign, value = item.partition("=")
        key = before.strip()
        if not sign or not key or key.count(".") >= MAX_DEPTH:
            raise ConfigError(f"{clipped(item)} is not key=value", where="command line", expected="search.trials=50")
        if key in found:
            raise ConfigError(f"{key} is given twice", where="command line", expected="one value")
        found[key] = parse_path(value) if key in PATH_KEYS else parse_value(value)
    return found


def clipped(value: object, most: int = 80) -> str:
    """Return the `repr` of a value for a message, at most `most` characters of it."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def refuse_control(key: str, value: object) -> None:
    """Raise ConfigError for the text of a command-line word that no file and no name can hold."""
    control = _CONTROL.search(value) if isinstance(value, str) else None
    if control is not None:
        raise ConfigError(
            f"{key}: the control character {control.group()!r} has no place in a text",
            where="command line",
            expected="a text that a terminal shows; rename the file if it is one's name",
        )


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


def _refuse_misleading(text: str, name: str) -> None:
    """Raise ConfigError for anchors, tags and deep nesting, all found by the scanner, which does not recurse."""
    depth = 0
    for token in yaml.scan(text, Loader=_Loader):
        where = f"{name} line {token.start_mark.line + 1}"
        if isinstance(token, yaml.AliasToken | yaml.AnchorToken):
            raise ConfigError("anchors and aliases are not supported", where=where)
        if isinstance(token, yaml.TagToken):
            raise ConfigError("tags are not supported", where=where, expected='a value as it is; "!text" in quotes')
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > MAX_DEPTH:
            raise ConfigError(f"it is nested more than {MAX_DEPTH} deep", where=where, expected="key: value lines")


_OPENING = (
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
)
_CLOSING = (yaml.BlockEndToken, yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken)


def _composed(text: str, check: Callable[[yaml.Node], None] = lambda node: None) -> tuple[yaml.Node | None, Any]:
    """Return the root of a document, which `check` may refuse, and its data; None and None of an empty one."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, None
        check(node)
        return node, loader.construct_document(node)
    finally:
        loader.dispose()


def _refuse_repeated(node: yaml.Node, name: str) -> None:
    seen: set[tuple[int, Path_]] = set()
    repeated = []
    for parent, path, line in _entries(node):
        if (parent, path) in seen:
            repeated.append(f"line {line}: {path[-1]}")
        seen.add((parent, path))
    if repeated:
        raise ConfigError("a key is given twice", where=f"{name} {'; '.join(repeated)}", expected="each key once")


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
