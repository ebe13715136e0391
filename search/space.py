"""The search space: ordered dimensions, and candidates as vectors over them.

Symbols: a *dimension* is one ratio shared by one or more groups. `groups: auto` ties all groups of a stage to one
dimension (6 to 12 of them), `each` gives one to every group, a list of patterns one to every group that matches.
With `depth: true` every *block* that can be removed whole is a choice between staying and going; so is, with
`levels: true`, every detection level on which hardly an object lands.
A study of several bases has a space for each, and which base it is is one more choice (`JointSpace`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Protocol

from objectives.image_size import Size, area, written
from search.config.sections import STRIDE, SpaceSpec
from search.errors import ConfigError, near_miss
from search.trial import Candidate

Value = float | int | str
SIZE = "imgsz"
PRECISION = "precision"
BASE = "base"
REMOVE = "remove:"
"""`remove:model.4.m.0` is the choice of one block; no dimension is called so, since groups are called by modules."""


class GroupLike(Protocol):
    """The part of pruning.Group that the space reads."""

    @property
    def name(self) -> str: ...
    @property
    def layers(self) -> tuple[str, ...]: ...
    @property
    def tie(self) -> str | None: ...


class BlockLike(Protocol):
    """The part of `block_removal.RemovableBlock` that the space reads."""

    @property
    def path(self) -> str: ...


class LevelLike(Protocol):
    """The part of `level_removal.RemovableLevel` that the space reads."""

    @property
    def path(self) -> str: ...
    @property
    def parts(self) -> tuple[str, ...]: ...


class GraphLike(Protocol):
    """The part of pruning.ChannelGraph that the space reads."""

    @property
    def free(self) -> Iterable[GroupLike]: ...
    @property
    def blocks(self) -> Iterable[BlockLike]: ...
    def stages(self) -> Mapping[str, tuple[str, ...]]: ...


@dataclass(frozen=True)
class Dimension:
    """One ratio within [low, high], applied to all of `groups`."""

    name: str
    groups: tuple[str, ...]
    low: float
    high: float


@dataclass(frozen=True)
class Block:
    """A block or detection level that may be removed whole; `groups` lie inside it and are removed with it."""

    path: str
    groups: tuple[str, ...] = ()

    @property
    def parameter(self) -> str:
        """Name of its choice in a vector."""
        return f"{REMOVE}{self.path}"

    @property
    def chain(self) -> str:
        """List of blocks that it belongs to: `model.4.m` of `model.4.m.0`."""
        return self.path.rpartition(".")[0]


@dataclass(frozen=True)
class Space:
    """Dimensions and removable blocks in network order, and the input sizes and precisions to choose from.

    `stride`: input sizes are multiples of it, in px.
    """

    dimensions: tuple[Dimension, ...]
    sizes: tuple[Size, ...]
    precisions: tuple[str, ...] = ("fp32",)
    blocks: tuple[Block, ...] = ()
    stride: int = STRIDE

    @classmethod
    def from_graph(
        cls,
        graph: GraphLike,
        spec: SpaceSpec,
        sizes: tuple[Size, ...],
        stride: int = STRIDE,
        levels: Sequence[LevelLike] = (),
    ) -> Space:
        """Build the space of a traced model, whose inputs are multiples of `stride` px.

        Args:
            levels: detection levels that may be removed, see `offered_levels`.

        Raises:
            ConfigError: a pattern matches nothing, or nothing is left to prune.
        """
        low, high = spec.ratio
        groups, blocks = tuple(graph.free), tuple(block.path for block in graph.blocks)
        _check_ignored(groups, (*blocks, *(level.path for level in levels)), spec.ignore)
        kept = tuple(group for group in groups if not _any_matches(group, spec.ignore))
        named = _tied(kept, graph.stages(), spec.groups)
        dimensions = tuple(Dimension(name, groups, low, high) for name, groups in named)
        if not dimensions:
            raise ConfigError("nothing is left to prune", where="space", expected="fewer ignore patterns")
        parts: list[tuple[str, tuple[str, ...]]] = [(path, (f"{path}.",)) for path in blocks] if spec.depth else []
        parts += [(level.path, level.parts) for level in levels]
        removable = tuple(_removable(groups, parts, spec.ignore))
        return cls(dimensions, sizes, spec.precision, removable, stride)

    @property
    def _sizes(self) -> dict[Value, Size]:
        """Value in a vector -> input size: samplers choose among numbers and words."""
        return {written(size): size for size in self.sizes}

    def candidate(self, vector: Mapping[str, Value]) -> Candidate:
        """Return the candidate at a point; choices with one value may be absent from the vector."""
        ratios = {dimension.name: float(vector[dimension.name]) for dimension in self.dimensions}
        size = self._sizes[vector[SIZE]] if SIZE in vector else self.sizes[0]
        removed = tuple(block.path for block in self.blocks if vector.get(block.parameter, False))
        return Candidate(ratios, size, str(vector.get(PRECISION, self.precisions[0])), removed)

    def vector(self, candidate: Candidate) -> dict[str, Value]:
        """Invert `candidate`; holds exactly the searched parameters."""
        point: dict[str, Value] = {d.name: candidate.ratios[d.name] for d in self.dimensions}
        if len(self.sizes) > 1:
            point[SIZE] = written(candidate.imgsz)
        if len(self.precisions) > 1:
            point[PRECISION] = candidate.precision
        point |= {block.parameter: block.path in candidate.removed for block in self.blocks}
        return point

    def choices(self) -> dict[str, tuple[Value, ...]]:
        """Categorical parameters: those with more than one value."""
        found: dict[str, tuple[Value, ...]] = {SIZE: tuple(self._sizes), PRECISION: self.precisions}
        found |= {block.parameter: (False, True) for block in self.blocks}
        return {name: values for name, values in found.items() if len(values) > 1}

    def group_ratios(self, candidate: Candidate) -> dict[str, float]:
        """Map group name -> ratio, as `ChannelGraph.plan` takes it.

        Groups inside a removed block are left out: their ratios change nothing, so equal networks get equal plans.
        """
        gone = {group for block in self.blocks if block.path in candidate.removed for group in block.groups}
        named = ((group, candidate.ratios[d.name]) for d in self.dimensions for group in d.groups)
        return {group: ratio for group, ratio in named if group not in gone}

    def uniform(self, ratio: float, imgsz: Size | None = None, removed: tuple[str, ...] = ()) -> Candidate:
        """Return the candidate with the same ratio everywhere, clipped to the bounds."""
        ratios = {d.name: min(max(ratio, d.low), d.high) for d in self.dimensions}
        return Candidate(ratios, imgsz or self.sizes[0], self.precisions[0], removed)

    def smallest(self) -> Candidate:
        """Return the smallest candidate: the largest ratio everywhere and every block removed."""
        highest = max(d.high for d in self.dimensions)
        return self.uniform(highest, min(self.sizes, key=area), tuple(block.path for block in self.blocks))


@dataclass(frozen=True)
class JointSpace:
    """The spaces of several bases, in the order of the study's `model`.

    Dimensions and blocks of one name are one parameter, shared by all bases that have them. A vector holds those of
    every base, so that samplers see one fixed space; what its own base does not have changes nothing.
    """

    spaces: tuple[Space, ...]

    @cached_property
    def dimensions(self) -> tuple[Dimension, ...]:
        """Dimensions of all bases, each name once."""
        found: dict[str, Dimension] = {}
        for dimension in (d for space in self.spaces for d in space.dimensions):
            found.setdefault(dimension.name, dimension)
        return tuple(found.values())

    def candidate(self, vector: Mapping[str, Value]) -> Candidate:
        """Return the candidate at a point."""
        base = int(vector[BASE])
        return replace(self.spaces[base].candidate(vector), base=base)

    def vector(self, candidate: Candidate) -> dict[str, Value]:
        """Invert `candidate`; what the base does not have is at its first value.

        Raises:
            ConfigError: there is no such base.
        """
        if not 0 <= candidate.base < len(self.spaces):
            raise ConfigError(f"there is no base {candidate.base}", expected=f"0 to {len(self.spaces) - 1}")
        idle: dict[str, Value] = {d.name: d.low for d in self.dimensions}
        idle |= {name: values[0] for name, values in self.choices().items()}
        return {**idle, **self.spaces[candidate.base].vector(candidate), BASE: candidate.base}

    def choices(self) -> dict[str, tuple[Value, ...]]:
        """Categorical parameters: the base, and those of any base."""
        found: dict[str, tuple[Value, ...]] = {BASE: tuple(range(len(self.spaces)))}
        for space in self.spaces:
            found |= space.choices()
        return found


AnySpace = Space | JointSpace
"""The space of a study of one base, or of several."""


def spaces_of(space: AnySpace) -> tuple[Space, ...]:
    """Return the space of each base."""
    return space.spaces if isinstance(space, JointSpace) else (space,)


def _check_ignored(groups: tuple[GroupLike, ...], blocks: tuple[str, ...], patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        if not any(_matches(group, pattern) for group in groups) and not any(fnmatchcase(b, pattern) for b in blocks):
            raise _nothing_matches("space.ignore", pattern, groups)


def offered_levels(
    asked: bool | tuple[str, ...], levels: Sequence[LevelLike], idle: Sequence[str], all_names: Sequence[str]
) -> tuple[LevelLike, ...]:
    """Return the detection levels that a search may remove.

    Args:
        asked: `space.levels`: true for the idle ones, or their names.
        levels: those that can be removed.
        idle: names of levels on which hardly an object lands.
        all_names: of the head's levels.

    Raises:
        ConfigError: a named level cannot be removed, or none would stay.
    """
    if isinstance(asked, bool):
        return tuple(level for level in levels if level.path in idle) if asked else ()
    known = [level.path for level in levels]
    for name in asked:
        if name not in known:
            raise ConfigError(
                f"{name!r} is no detection level that can be removed from this model",
                where="space.levels",
                expected=f"true, or some of {', '.join(known)}" if known else "false: this model has no such level",
                near=near_miss(name, known),
            )
    if set(asked) >= set(all_names):
        raise ConfigError("a network without any detection level", where="space.levels", expected="one that stays")
    return tuple(level for level in levels if level.path in asked)


def _removable(
    groups: tuple[GroupLike, ...], parts: Sequence[tuple[str, tuple[str, ...]]], ignored: tuple[str, ...]
) -> Iterator[Block]:
    """Yield the blocks and levels (name, prefixes of its modules) without ignored parts."""
    for path, prefixes in parts:
        inside = tuple(group for group in groups if _lies_in(group, prefixes))
        if not any(fnmatchcase(path, p) for p in ignored) and not any(_any_matches(group, ignored) for group in inside):
            yield Block(path, tuple(group.name for group in inside))


def _lies_in(group: GroupLike, prefixes: tuple[str, ...]) -> bool:
    """Return whether every layer that holds channels of the group begins with a prefix (which ends in a dot)."""
    return bool(group.layers) and all(f"{layer}.".startswith(prefixes) for layer in group.layers)


def _any_matches(group: GroupLike, patterns: tuple[str, ...]) -> bool:
    return any(_matches(group, pattern) for pattern in patterns)


def _tied(
    groups: tuple[GroupLike, ...], stages: Mapping[str, tuple[str, ...]], choice: str | tuple[str, ...]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    if choice == "auto":
        names = {group.name for group in groups}
        for stage, members in stages.items():
            kept = tuple(name for name in members if name in names)
            if kept:
                yield stage, kept
        return
    if choice != "each":
        groups = chosen_groups(groups, tuple(choice))
    yield from _one_each(groups)


def chosen_groups(
    groups: tuple[GroupLike, ...], patterns: tuple[str, ...], where: str = "space.groups"
) -> tuple[GroupLike, ...]:
    """Return the groups that match a pattern by name or layer. Raises ConfigError for a pattern without a match."""
    for pattern in patterns:
        if not any(_matches(group, pattern) for group in groups):
            raise _nothing_matches(where, pattern, groups)
    return tuple(group for group in groups if any(_matches(group, p) for p in patterns))


def _one_each(groups: tuple[GroupLike, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield one dimension per set of tied groups: separate ratios could not both be met."""
    members: dict[str, list[str]] = {}
    for group in groups:
        members.setdefault(group.tie or group.name, []).append(group.name)
    for names in members.values():
        yield names[0], tuple(names)


def _matches(group: GroupLike, pattern: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in (group.name, *group.layers))


def _nothing_matches(where: str, pattern: str, groups: tuple[GroupLike, ...]) -> ConfigError:
    names = [group.name for group in groups]
    return ConfigError(
        f"no group matches {pattern!r}",
        where=where,
        expected=f"a pattern over group or layer names, such as {names[0] if names else 'model.4.*'}",
        near=near_miss(pattern, names),
        next_command="paretoprune check lists the groups",
    )
