"""Parse the `key=value` words of a command into a frozen model, with one validated type per kind of value.

Invalid values raise ConfigError inside the validation: it is no ValueError, so pydantic passes it through.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, ValidationInfo

from objectives.image_size import Size, sides, written
from search.config import yaml_source
from search.config.inputs.checkpoint_facts import checkpoint_facts
from search.config.inputs.paths import absolute, exists, expanded, is_file
from search.config.inputs.user_code import UserReference, located
from search.config.inputs.user_modules import declare, name_fault
from search.config.sections import STRIDE, RecoverSpec, image_size
from search.config.yaml_source import clipped
from search.errors import ConfigError, near_miss
from ultralytics_versions.tested import BEYOND, RECTANGLES, installed, without_rectangles


def _modules(value: Any) -> Path:
    path = absolute(Path(str(value)), Path.cwd())
    if path.suffix != ".py" or not is_file(path):
        raise ConfigError(
            f"no such file: {path}", where="modules=", expected="a Python file with the model's own classes"
        )
    if (fault := name_fault(path)) is not None:
        raise ConfigError(fault, where="modules=", expected="a name such as myblocks.py")
    return path


Modules = Annotated[Path, BeforeValidator(_modules)]


class Order(BaseModel):
    """Arguments of a command. Each field is a key, except those passed to `from_keys` beside the keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    example: ClassVar[str]
    """A command that can be typed as it is."""
    lacking: ClassVar[str]
    """The message where {keys} are missing, of a command on {model} if the model is no key."""

    modules: Modules | None = None
    """A file with classes of the model that are not Ultralytics' own (`user_modules`)."""

    @classmethod
    def from_keys(cls, keys: Mapping[str, Any], **given: Any) -> Self:
        """Parse `key=value` pairs.

        Raises:
            ConfigError: an unknown, missing or contradicting key, a value of the wrong kind, a missing file.
        """
        known = [name for name in cls.model_fields if name not in given]
        for key in keys:
            if key not in known:
                raise ConfigError(
                    f"unknown key {key!r}",
                    where="command line",
                    expected=", ".join(known),
                    near=near_miss(key, known),
                )
        try:
            order = cls.model_validate({**keys, **given})
            declare(None if order.modules is None else str(order.modules))
            return order
        except ValidationError as error:
            missing = [f"{detail['loc'][0]}=" for detail in error.errors() if detail["type"] == "missing"]
            text = cls.lacking.format(keys=" and ".join(missing), model=given.get("model"))
            raise ConfigError(text, expected=cls.example) from error

    @classmethod
    def of_file(cls, model: Path, keys: Mapping[str, Any]) -> Self:
        """Parse keys for a file that is named before them. Raises as `from_keys`."""
        if not is_file(model):
            raise ConfigError(f"no such file: {model}", expected=cls.example)
        return cls.from_keys(keys, model=model)


def recover_spec(keys: Mapping[str, Any], expected: str, section: str = "") -> RecoverSpec:
    """Parse fine-tune settings from `key=value` pairs. Raises ConfigError for the first fault in `section`."""
    try:
        return RecoverSpec.model_validate(keys)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(filter(None, (section, *map(str, first["loc"])))) or "key=value"
        raise ConfigError(f"{name}: {first['msg']}", where="command line", expected=expected) from error


def trained_size(data: Mapping[str, Any]) -> Size:
    """Return the input size that the checkpoint `model` was trained at, or pruned for; 640 if unknown.

    Raises ConfigError: see `check_sides`.
    """
    found = ("model" in data and checkpoint_facts(data["model"]).imgsz) or 640
    check_sides(found, str(data.get("model")))
    return found


def check_sides(size: Size, where: str) -> None:
    """Refuse a rectangle where the installed Ultralytics knows squares alone. Raises ConfigError."""
    gap = None if isinstance(size, int) else without_rectangles(installed())
    if gap is not None:
        later = f'pip install "ultralytics>={RECTANGLES.since},<{BEYOND}"'
        expected = f"one side, such as imgsz={max(sides(size))}, or a later release: {later}"
        raise ConfigError(f"{written(size)}: {gap}", where=where, expected=expected)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _share(value: Any, info: ValidationInfo) -> float:
    if not _is_number(value) or not 0 <= value < 1:
        raise ConfigError(f"{value!r} is not a {info.field_name}", where=f"{info.field_name}=", expected="0 to below 1")
    return float(value)


def _drop(value: Any, info: ValidationInfo) -> float:
    if not _is_number(value) or not 0 <= value <= 1:
        where, expected = f"{info.field_name}=", "0 to 1, such as 0.05"
        raise ConfigError(f"{value!r} is not a fall of the metric", where=where, expected=expected)
    return float(value)


def _positive(value: Any, info: ValidationInfo) -> float:
    if not _is_number(value) or not 0 < value < math.inf:
        raise ConfigError(
            f"{clipped(value)} is not a number above 0", where=f"{info.field_name}=", expected="for example 6"
        )
    return float(value)


def _count(value: Any, info: ValidationInfo) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        where = f"{info.field_name}="
        raise ConfigError(f"{clipped(value)} is not a whole number above 0", where=where, expected="for example 8")
    return value


def _seed(value: Any, info: ValidationInfo) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{clipped(value)} is not a whole number from 0", where=f"{info.field_name}=")
    return value


def _size(value: Any, info: ValidationInfo) -> Size:
    where, model = f"{info.field_name}=", info.data.get("model")
    try:
        found = image_size(value)
    except ValueError as error:
        what, expected = f"{clipped(value)} is no size in pixels", "for example 640, or 384,640 (height, width)"
        raise ConfigError(what, where=where, expected=expected) from error
    if UserReference.parse(model) is not None:
        return found
    if any(side % STRIDE for side in sides(found)):
        raise ConfigError(f"{written(found)} is not a multiple of {STRIDE}, the stride of the models", where=where)
    if not isinstance(found, int) and model is not None and checkpoint_facts(Path(str(model))).task == "classify":
        raise ConfigError(
            f"{written(found)}: a classifier's images are cropped to squares", where=where, expected=f"{max(found)}"
        )
    check_sides(found, where)
    return found


def _names(value: Any) -> tuple[str, ...]:
    found = [str(item) for item in value] if isinstance(value, list | tuple) else str(value).split(",")
    return tuple(name.strip() for name in found if name.strip())


def _counts(value: Any, info: ValidationInfo) -> dict[str, int]:
    pairs = value.items() if isinstance(value, Mapping) else (item.rpartition(":")[::2] for item in _names(value))
    try:
        found = {str(name).strip(): int(number) for name, number in pairs}
    except ValueError:
        found = {"": 0}
    if not all(name and number > 0 for name, number in found.items()):
        key = info.field_name
        raise ConfigError(f"{value!r} does not count heads", where=f"{key}=", expected=f"{key}=model.10.m.0.attn:1")
    return found


def _shares(value: Any, info: ValidationInfo) -> dict[str, float]:
    """Read a mapping of names to shares, or the YAML file that holds one."""
    where = f"{info.field_name}="
    source = yaml_source.Source(dict(value), {}, where) if isinstance(value, Mapping) else None
    source = source or yaml_source.read(_file(value, info))
    if not source.data:
        raise ConfigError("no ratio is named", where=where, expected="lines such as model.4.m.0.cv1: 0.5")
    for name, share in source.data.items():
        if not _is_number(share) or not 0 <= share < 1:
            raise ConfigError(
                f"{name}: {clipped(share)} is not a ratio", where=source.where((str(name),)), expected="0 to below 1"
            )
    return {str(name): float(share) for name, share in source.data.items()}


def _file(value: Any, info: ValidationInfo) -> Path:
    path = expanded(Path(str(value)))
    if not is_file(path):
        raise ConfigError(f"no such file: {path}", where=f"{info.field_name}=")
    return path


def _network(value: Any, info: ValidationInfo) -> Path:
    own = UserReference.parse(value)
    if own is None:
        return _file(value, info)
    _file(absolute(own.file, Path.cwd()), info)
    return Path(located(str(value), Path.cwd()))


def existing_data(value: object) -> Path:
    """Return the path of an existing file or folder. Raises ConfigError."""
    path = expanded(Path(str(value)))
    if not exists(path):
        raise ConfigError(f"no such file: {path}", where="data=", expected="a data YAML, or a folder to classify")
    return path


def one_of(*known: str) -> BeforeValidator:
    """Return a validator that accepts one of the `known` words."""

    def read(value: Any, info: ValidationInfo) -> str:
        if value not in known:
            key, near = info.field_name, near_miss(str(value), known)
            raise ConfigError(f"no {key} {value!r}", where=f"{key}=", expected=" or ".join(known), near=near)
        return str(value)

    return BeforeValidator(read)


Share = Annotated[float, BeforeValidator(_share)]
"""0 to below 1."""
Drop = Annotated[float, BeforeValidator(_drop)]
"""How far a metric that is a fraction may fall: 0 to 1."""
Positive = Annotated[float, BeforeValidator(_positive)]
Count = Annotated[int, BeforeValidator(_count)]
"""A whole number above 0."""
Seed = Annotated[int, BeforeValidator(_seed)]
InputSize = Annotated[Size, BeforeValidator(_size)]
"""An input size in pixels, a side or `height,width`; a network of one's own may have any."""
Word = Annotated[str, BeforeValidator(str)]
Shares = Annotated[dict[str, float], BeforeValidator(_shares)]
"""`{model.4: 0.5}`, or the name of a YAML file of such lines; each 0 to below 1."""
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
"""`a,b`, `[a, b]` or one name."""
Counts = Annotated[dict[str, int], BeforeValidator(_counts)]
"""`a:1,b:2` or `{a: 1, b: 2}`."""
File = Annotated[Path, BeforeValidator(_file)]
"""A file that is there."""
Network = Annotated[Path, BeforeValidator(_network)]
"""A checkpoint that is there, or a network of one's own: `module.py:function`, its path made absolute."""
Data = Annotated[Path, BeforeValidator(existing_data)]
Place = Annotated[Path, BeforeValidator(lambda value: expanded(Path(str(value))))]
"""A path that need not be there."""
