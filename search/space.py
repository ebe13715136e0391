"""The search space: ordered dimensions, and candidates as vectors over them.

Symbols: a *dimension* is one ratio shared by one or more groups. `groups: auto` ties all groups of a stage to one
dimension (6 to 12 of them), `each` gives one to every group, a list of patterns one to every group that matches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

from search.errors import ConfigError, near_miss
from search.spec import SpaceSpec
from search.trial import Candidate

Value = float | int | str
SIZE = "imgsz"
PRECISION = "precision"


class GroupLike(Protocol):
    """The part of pruning.Group that the space reads."""

    @property
    def name(self) -> str: ...
    @property
    def layers(self) -> tuple[str, ...]: ...
    @property
    def tie(self) -> str | None: ...


class GraphLike(Protocol):
    """The part of pruning.ChannelGraph that the space reads."""

    @property
    def free(self) -> Iterable[GroupLike]: ...
    def stages(self) -> Mapping[str, tuple[str, ...]]: ...


@dataclass(frozen=True)
class Dimension:
    """One ratio within [low, high], applied to all of `groups`."""

    name: str
    groups: tuple[str, ...]
    low: float
    high: float


@dataclass(frozen=True)
class Space:
    """Dimensions in network order, plus the input sizes and precisions to choose from."""

    dimensions: tuple[Dimension, ...]
    sizes: tuple[int, ...]
    precisions: tuple[str, ...] = ("fp32",)

    @classmethod
    def from_graph(cls, graph: GraphLike, spec: SpaceSpec, sizes: tuple[int, ...]) -> Space:
        """The space of a traced model.

        Raises:
            ConfigError: a pattern matches nothing, or nothing is left to prune.
        """
        low, high = spec.ratio
        kept = _not_ignored(tuple(graph.free), spec.ignore)
        named = _tied(kept, graph.stages(), spec.groups)
        dimensions = tuple(Dimension(name, groups, low, high) for name, groups in named)
        if not dimensions:
            raise ConfigError("nothing is left to prune", where="space", expected="fewer ignore patterns")
        return cls(dimensions, sizes, spec.precision)

    def candidate(self, vector: Mapping[str, Value]) -> Candidate:
        """The candidate at a point; choices with one value may be absent from the vector."""
        ratios = {dimension.name: float(vector[dimension.name]) for dimension in self.dimensions}
        size = int(vector.get(SIZE, self.sizes[0]))
        return Candidate(ratios, size, str(vector.get(PRECISION, self.precisions[0])))

    def vector(self, candidate: Candidate) -> dict[str, Value]:
        """Inverse of `candidate`, holding exactly the parameters that are searched."""
        point: dict[str, Value] = {d.name: candidate.ratios[d.name] for d in self.dimensions}
        if len(self.sizes) > 1:
            point[SIZE] = candidate.imgsz
        if len(self.precisions) > 1:
            point[PRECISION] = candidate.precision
        return point

    def choices(self) -> dict[str, tuple[Value, ...]]:
        """The categorical parameters: those with more than one value."""
        found: dict[str, tuple[Value, ...]] = {SIZE: self.sizes, PRECISION: self.precisions}
        return {name: values for name, values in found.items() if len(values) > 1}

    def group_ratios(self, candidate: Candidate) -> dict[str, float]:
        """Group name -> ratio, as `ChannelGraph.plan` takes it."""
        return {group: candidate.ratios[d.name] for d in self.dimensions for group in d.groups}

    def uniform(self, ratio: float, imgsz: int | None = None) -> Candidate:
        """The same ratio everywhere, clipped to the bounds."""
        ratios = {d.name: min(max(ratio, d.low), d.high) for d in self.dimensions}
        return Candidate(ratios, imgsz or self.sizes[0], self.precisions[0])


def _not_ignored(groups: tuple[GroupLike, ...], patterns: tuple[str, ...]) -> tuple[GroupLike, ...]:
    for pattern in patterns:
        if not any(_matches(group, pattern) for group in groups):
            raise _nothing_matches("space.ignore", pattern, groups)
    return tuple(group for group in groups if not any(_matches(group, p) for p in patterns))


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
        groups = _chosen(groups, tuple(choice))
    yield from _one_each(groups)


def _chosen(groups: tuple[GroupLike, ...], patterns: tuple[str, ...]) -> tuple[GroupLike, ...]:
    for pattern in patterns:
        if not any(_matches(group, pattern) for group in groups):
            raise _nothing_matches("space.groups", pattern, groups)
    return tuple(group for group in groups if any(_matches(group, p) for p in patterns))


def _one_each(groups: tuple[GroupLike, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Groups that are tied to equal widths share a dimension: separate ratios could not both be met."""
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
