"""Initial design: candidates that cover the trade-off before any model guides the search.

If sensitivities are known, the guide proposes them (guided.py). Otherwise uniform ratios come first, as the baseline of
the search, then weighted ones that prune one third of the network harder than the rest. Two controls: the unpruned
model with the same fine-tune (the effect of the fine-tune alone), and lower input sizes without pruning. If whole
blocks may be removed, three candidates repeat one step of the ladder without the first block, with one block left in
each chain, and with none, which shows the value of depth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest

from search.space import AnySpace, JointSpace, Space
from search.trial import Candidate

_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
_HARD, _SOFT = 0.5, 0.2
_SHALLOW = 0.2
"""The step of the ladder that the candidates without some blocks repeat."""


def opening(space: AnySpace) -> tuple[Candidate, ...]:
    """Return uniform ratios, third-weighted candidates, the controls, and shallower networks; without duplicates.

    Of several bases those of each, in turn.
    """
    if isinstance(space, JointSpace):
        return in_turn([opening(own) for own in space.spaces])
    ladder = [space.uniform(level) for level in _LEVELS]
    weighted = [_weighted(space, third) for third in range(3)] if len(space.dimensions) >= 3 else []
    controls = [space.uniform(0.0, size) for size in space.sizes]
    shallow = [space.uniform(_SHALLOW, removed=removed) for removed in _removals(space)]
    return _distinct([*ladder, *weighted, *controls, *shallow])


def in_turn(by_base: Sequence[Iterable[Candidate]]) -> tuple[Candidate, ...]:
    """Return the first candidate of each base, then the second of each, ...; each says of which base it is."""
    rows = zip_longest(*by_base)
    return tuple(replace(one, base=base) for row in rows for base, one in enumerate(row) if one is not None)


def _removals(space: Space) -> Iterator[tuple[str, ...]]:
    """Yield the first block; all but the first of each chain; all."""
    paths = tuple(block.path for block in space.blocks)
    first = {block.chain: block.path for block in reversed(space.blocks)}
    yield paths[:1]
    yield tuple(path for path in paths if path not in first.values())
    yield paths


def _weighted(space: Space, third: int) -> Candidate:
    """Prune backbone, neck or head (first, second, last third of the dimensions) hard, the rest softly."""
    count = len(space.dimensions)
    hard = {d.name for index, d in enumerate(space.dimensions) if index * 3 // count == third}
    ratios = {d.name: min(max(_HARD if d.name in hard else _SOFT, d.low), d.high) for d in space.dimensions}
    return Candidate(ratios, space.sizes[0], space.precisions[0])


def _distinct(candidates: list[Candidate]) -> tuple[Candidate, ...]:
    found: list[Candidate] = []
    for candidate in candidates:
        if candidate not in found:
            found.append(candidate)
    return tuple(found)
