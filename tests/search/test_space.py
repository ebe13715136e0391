"""Candidates <-> vectors, and the space of a graph."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from search.config.sections import SpaceSpec
from search.errors import ConfigError
from search.propose.initial_candidates import opening
from search.space import BASE, Dimension, JointSpace, Space, offered_levels, spaces_of
from search.testing.known_front import known_space
from search.trial import Candidate


@dataclass(frozen=True)
class _Group:
    name: str
    layers: tuple[str, ...] = ()
    tie: str | None = None


@dataclass(frozen=True)
class _Block:
    path: str


@dataclass(frozen=True)
class _Graph:
    free: tuple[_Group, ...]
    blocks: tuple[_Block, ...] = ()

    def stages(self) -> dict[str, tuple[str, ...]]:
        names = tuple(group.name for group in self.free)
        return {"body": names[:3], "head": names[3:]}


GRAPH = _Graph(
    (
        _Group("model.0", ("model.0.conv",)),
        _Group("model.2.cv1[0:8]", ("model.2.cv1.conv",), tie="model.2.cv1[0:8]"),
        _Group("model.2.cv1[8:16]", ("model.2.cv1.conv",), tie="model.2.cv1[0:8]"),
        _Group("model.9", ("model.9.conv",)),
    )
)


DEEP = _Graph(
    (
        *GRAPH.free,
        _Group("model.4.m.0.cv1", ("model.4.m.0.cv1.conv",)),
        _Group("model.4", ("model.4.m.0.cv2.conv", "x")),
    ),
    (_Block("model.4.m.0"), _Block("model.4.m.1"), _Block("model.6.m.0")),
)


def _deep(**spec: object) -> Space:
    return Space.from_graph(DEEP, SpaceSpec.model_validate({"depth": True, "groups": "each", **spec}), (640,))


def _names(**spec: object) -> dict[str, tuple[str, ...]]:
    space = Space.from_graph(GRAPH, SpaceSpec.model_validate(spec), (640,))
    return {dimension.name: dimension.groups for dimension in space.dimensions}


def test_auto_is_one_ratio_per_stage() -> None:
    assert list(_names()) == ["body", "head"]


def test_each_is_one_ratio_per_tie() -> None:
    names = _names(groups="each")
    assert list(names) == ["model.0", "model.2.cv1[0:8]", "model.9"]
    assert names["model.2.cv1[0:8]"] == ("model.2.cv1[0:8]", "model.2.cv1[8:16]")


def test_patterns_choose_groups_by_group_or_layer_name() -> None:
    assert list(_names(groups=["model.9*", "*.cv1.conv"])) == ["model.2.cv1[0:8]", "model.9"]


def test_ignored_groups_are_left_alone() -> None:
    assert _names(ignore=["model.9"]) == {"body": ("model.0", "model.2.cv1[0:8]", "model.2.cv1[8:16]")}


@pytest.mark.parametrize("spec", [{"ignore": ["model.8"]}, {"groups": ["modle.9"]}])
def test_a_pattern_that_matches_nothing_is_a_fault_with_the_near_miss(spec: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"(?s)no group matches.*did you mean: model\."):
        _names(**spec)


def test_everything_ignored_is_a_fault() -> None:
    with pytest.raises(ConfigError, match="nothing is left"):
        _names(ignore=["*"])


def test_vectors_and_candidates_are_inverse() -> None:
    space = known_space(sizes=(640, 320))
    candidate = Candidate({"stem": 0.1, "neck": 0.2, "head": 0.3}, 320)
    vector = space.vector(candidate)
    assert vector == {"stem": 0.1, "neck": 0.2, "head": 0.3, "imgsz": 320}
    assert space.candidate(vector) == candidate
    assert "imgsz" not in known_space().vector(candidate)


def test_a_size_of_two_sides_is_a_word_in_a_vector() -> None:
    """Samplers and their databases choose among numbers and words."""
    space = known_space(sizes=(640, (384, 640), (640, 384), (224, 416)))
    assert space.choices()["imgsz"] == (640, "384x640", "640x384", "224x416")
    for size in space.sizes:
        candidate = space.uniform(0.25, size)
        assert space.candidate(space.vector(candidate)) == candidate
    assert space.smallest().imgsz == (224, 416), "of the fewest pixels"


def test_blocks_are_choices_between_staying_and_going() -> None:
    space = _deep()
    assert [block.path for block in space.blocks] == ["model.4.m.0", "model.4.m.1", "model.6.m.0"]
    assert set(space.choices()) == {f"remove:{block.path}" for block in space.blocks}
    candidate = space.uniform(0.5, removed=("model.4.m.1", "model.6.m.0"))
    vector = space.vector(candidate)
    assert vector["remove:model.4.m.0"] is False and vector["remove:model.6.m.0"] is True
    assert space.candidate(vector) == candidate
    assert _deep(depth=False).blocks == ()


@dataclass(frozen=True)
class _Level:
    path: str
    parts: tuple[str, ...] = ()


LEVELS = (_Level("P4"), _Level("P5", ("model.4.", "model.9.")))


def test_levels_are_choices_as_blocks_are_and_take_their_groups_with_them() -> None:
    spec = SpaceSpec.model_validate({"groups": "each"})
    space = Space.from_graph(DEEP, spec, (640,), levels=LEVELS)
    assert set(space.choices()) == {"remove:P4", "remove:P5"}
    candidate = space.uniform(0.5, removed=("P5",))
    assert space.candidate(space.vector(candidate)) == candidate
    assert space.group_ratios(space.uniform(0.5)).keys() - space.group_ratios(candidate).keys() == {
        "model.4.m.0.cv1",
        "model.9",
    }
    ignoring = SpaceSpec.model_validate({"groups": "each", "ignore": ["model.9"]})
    assert [block.path for block in Space.from_graph(DEEP, ignoring, (640,), levels=LEVELS).blocks] == ["P4"]


def test_idle_levels_are_offered_or_those_that_are_named() -> None:
    names = ("P3", "P4", "P5")
    assert offered_levels(False, LEVELS, ["P5"], names) == ()
    assert offered_levels(True, LEVELS, ["P3", "P5"], names) == LEVELS[1:], "P3 is idle, and cannot go"
    assert offered_levels(("P4",), LEVELS, ["P5"], names) == LEVELS[:1]
    with pytest.raises(ConfigError, match=r"(?s)'P6' is no detection level.*some of P4, P5"):
        offered_levels(("P6",), LEVELS, (), names)
    with pytest.raises(ConfigError, match="without any detection level"):
        offered_levels(("P4", "P5"), LEVELS, (), ("P4", "P5"))


@pytest.mark.parametrize("value", [True, False, ["P5"]])
def test_what_space_levels_may_be(value: object) -> None:
    expected = tuple(value) if isinstance(value, list) else value
    assert SpaceSpec.model_validate({"levels": value}).levels == expected
    for wrong in ("P5", 5, [], [5]):
        with pytest.raises(ValueError, match="list of detection levels"):
            SpaceSpec.model_validate({"levels": wrong})


def test_groups_inside_a_removed_block_have_no_ratio() -> None:
    space = _deep()
    assert space.blocks[0].groups == ("model.4.m.0.cv1",)
    without = space.group_ratios(space.uniform(0.5, removed=("model.4.m.0",)))
    assert space.group_ratios(space.uniform(0.5)).keys() - without.keys() == {"model.4.m.0.cv1"}


@pytest.mark.parametrize("pattern", ["model.4.m.0", "model.4.m.0.cv1.conv"])
def test_a_block_of_which_a_part_is_ignored_stays(pattern: str) -> None:
    assert [block.path for block in _deep(ignore=[pattern]).blocks] == ["model.4.m.1", "model.6.m.0"]


def test_the_smallest_candidate_has_the_largest_ratio_and_no_block() -> None:
    least = _deep(ratio=[0.1, 0.7]).smallest()
    assert set(least.ratios.values()) == {0.7} and len(least.removed) == 3


def test_the_opening_repeats_one_step_without_some_blocks() -> None:
    removed = [candidate.removed for candidate in opening(_deep()) if candidate.removed]
    first, second, other = "model.4.m.0", "model.4.m.1", "model.6.m.0"
    assert removed == [(first,), (second,), (first, second, other)]
    assert opening(_deep())[: len(opening(_deep(depth=False)))] == opening(_deep(depth=False))


def test_the_opening_is_distinct_within_bounds_and_names_every_size() -> None:
    space = known_space(0.2, 0.5, sizes=(640, 320))
    candidates = opening(space)
    assert len(candidates) == len({str(candidate) for candidate in candidates})
    assert all(0.2 <= ratio <= 0.5 for candidate in candidates for ratio in candidate.ratios.values())
    assert {candidate.imgsz for candidate in candidates} == {640, 320}
    assert Candidate({"stem": 0.5, "neck": 0.2, "head": 0.2}) in candidates


def _joint() -> JointSpace:
    """Two bases: the second has a dimension of its own, lacks one of the first, and has no removable block."""
    first = known_space().dimensions[0]
    own = Dimension("own", ("own",), 0.0, 0.5)
    return JointSpace((known_space(depth=True), Space((first, own), (640,))))


def test_a_joint_space_has_one_dimension_of_each_name_and_the_base_as_a_choice() -> None:
    space = _joint()
    assert [d.name for d in space.dimensions] == ["stem", "neck", "head", "own"]
    assert space.choices() == {BASE: (0, 1), "remove:body.m.0": (False, True), "remove:body.m.1": (False, True)}
    assert spaces_of(space) == space.spaces and spaces_of(space.spaces[0]) == (space.spaces[0],)


@pytest.mark.parametrize(
    "candidate",
    [
        Candidate({"stem": 0.1, "neck": 0.2, "head": 0.3}, removed=("body.m.1",)),
        Candidate({"stem": 0.4, "own": 0.5}, base=1),
    ],
)
def test_a_candidate_of_either_base_is_a_point_of_the_joint_space(candidate: Candidate) -> None:
    """What its base does not have is in the vector, since samplers see one space, and not in the candidate."""
    space = _joint()
    point = space.vector(candidate)
    assert point.keys() == {d.name for d in space.dimensions} | space.choices().keys()
    assert space.candidate(point) == candidate == Candidate.from_json(candidate.to_json())
    assert space.candidate({**point, "neck" if candidate.base else "own": 0.45}) == candidate


def test_a_base_that_there_is_not_is_no_point_of_the_space() -> None:
    with pytest.raises(ConfigError, match="there is no base 2"):
        _joint().vector(Candidate({"stem": 0.4, "own": 0.5}, base=2))


def test_a_candidate_of_the_first_base_is_recorded_as_before_there_were_several() -> None:
    assert "base" not in Candidate({"stem": 0.1}).to_json()
    assert Candidate({"stem": 0.1}, base=1).to_json()["base"] == 1


def test_the_opening_of_a_joint_space_has_the_candidates_of_each_base_in_turn() -> None:
    space = _joint()
    found = opening(space)
    for base, own in enumerate(space.spaces):
        assert [c for c in found if c.base == base] == [replace(c, base=base) for c in opening(own)]
    assert [candidate.base for candidate in found[:4]] == [0, 1, 0, 1]
