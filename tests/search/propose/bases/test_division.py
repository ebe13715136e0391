"""The division of trials between bases: a fair start, the better base, and the one that can win nowhere is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from search.propose.bases.division import GuideByBase
from search.propose.guided import Observation
from search.propose.optuna_backend.storage import sqlite_url
from search.propose.optuna_proposer import OptunaProposer
from search.testing.contracts import ProposerContract
from search.testing.known_bases import ScaledEvaluator, known_evaluators, known_guides, known_joint
from search.testing.known_front import OBJECTIVES, LearningEvaluator
from search.trial import Candidate

STRONG = ScaledEvaluator(cost=0.5, accuracy=0.95)
HOPELESS = ScaledEvaluator(cost=0.9, accuracy=0.3)


class TestGuidesOfTwoBases(ProposerContract):
    """The contract of every proposer; the search space is the joint one."""

    @pytest.fixture
    def opened(self, tmp_path: Path) -> Callable[[], OptunaProposer]:
        guide = known_guides(STRONG)
        return lambda: proposer_of(guide, tmp_path)


def proposer_of(guide: GuideByBase, folder: Path) -> OptunaProposer:
    storage, space = sqlite_url(folder / "study.db"), known_joint()
    return OptunaProposer(storage, "known", space, OBJECTIVES, opening=guide.opening(), guide=guide)


@dataclass(frozen=True)
class Done:
    """A trial that was not screened."""

    base: int
    source: str
    latency_ms: float


def searched(small: ScaledEvaluator, folder: Path, trials: int, targets: tuple[float, ...] = ()) -> list[Done]:
    """A search without a loop, of which screened trials do not count."""
    proposer, found = proposer_of(known_guides(small, targets=targets), folder), list[Done]()
    while len(found) < trials:
        proposal = proposer.ask()
        measured = known_evaluators(small).evaluate(proposal.candidate, 0, 0, folder, proposal.screening)
        proposer.tell(proposal.number, measured)
        if not measured.screened:
            found.append(Done(proposal.candidate.base, proposal.source, measured.figures["latency_ms"].value))
    proposer.close()
    return found


@pytest.fixture(scope="module")
def both_win(tmp_path_factory: pytest.TempPathFactory) -> list[Done]:
    """After the initial candidates; half of the trials are for a budget of 4.5 ms."""
    return searched(STRONG, tmp_path_factory.mktemp("both"), 26, targets=(0.45,))[15:]


def test_each_base_has_its_initial_candidates_in_turn() -> None:
    guide = known_guides(STRONG)
    opening = guide.opening()
    each = [len(one.initial) for one in guide.bases]
    assert Counter(candidate.base for candidate in opening) == dict(enumerate(each))
    assert [candidate.base for candidate in opening[:6]] == [0, 1, 0, 1, 0, 1]


def test_a_base_that_can_win_nowhere_is_left_after_its_initial_candidates(tmp_path: Path) -> None:
    initial = len(known_guides(HOPELESS).bases[1].initial)
    of_small = [number for number, done in enumerate(searched(HOPELESS, tmp_path, 20)) if done.base == 1]
    assert len(of_small) <= initial and max(of_small) < 2 * initial


def test_each_base_is_searched_where_it_wins(both_win: list[Done]) -> None:
    """The small one below its own latency, 5 ms; the large one above it, where the small one cannot be."""
    front = [done for done in both_win if done.source == "guided:front"]
    assert {done.base for done in front} == {0, 1}
    assert all(done.latency_ms <= 5.0 for done in front if done.base == 1)
    assert any(done.latency_ms > 5.0 for done in front if done.base == 0)


def test_a_budget_is_met_by_the_base_that_promises_more(both_win: list[Done]) -> None:
    """At 4.5 ms the small base loses little, the large one more than half of its channels."""
    aimed = [done for done in both_win if done.source == "guided:budget"]
    assert len(aimed) >= 4 and {done.base for done in aimed[1:]} == {1}, "the first may be a guess"
    assert all(done.latency_ms <= 4.6 for done in aimed)


def test_networks_of_the_joint_front_are_trained_further(tmp_path: Path) -> None:
    small = ScaledEvaluator(cost=0.5, accuracy=0.95, inner=LearningEvaluator())
    guides = known_guides(small)
    guide = replace(guides, bases=tuple(replace(b, guide=replace(b.guide, promotes=True)) for b in guides.bases))
    proposer, candidates = proposer_of(guide, tmp_path), list[Candidate]()
    for number in range(45):
        proposal = proposer.ask()
        candidates.append(proposal.candidate)
        measured = known_evaluators(small).evaluate(proposal.candidate, 0, 0, tmp_path, proposal.screening)
        proposer.tell(number, measured)
    proposer.close()
    further = [one for one in candidates if one.promotion is not None]
    assert len(further) >= 3
    for one in further:
        assert one.promotion is not None and one.promotion.trial is not None
        assert replace(one, promotion=None) == replace(candidates[one.promotion.trial], promotion=None)


def test_the_bases_themselves_are_on_the_joint_front() -> None:
    guide = known_guides(STRONG)
    assert guide.front([]) == ((0.5, pytest.approx(0.95)), (1.0, 1.0))
    measured = known_evaluators(STRONG).evaluate(
        Candidate({"stem": 0.2, "neck": 0.1, "head": 0.0}, base=1), 0, 0, Path()
    )
    told = guide.told(
        Candidate({"stem": 0.2, "neck": 0.1, "head": 0.0}, base=1),
        {name: figure.value for name, figure in measured.figures.items()},
        None,
        False,
    )
    (cost, share), *_ = guide.front([told])
    assert told.base == 1 and told.share == pytest.approx(share / 0.95)
    assert cost == pytest.approx(0.5 * told.cost) and cost < 0.5


def test_an_open_base_needs_no_trials_and_all_are_open_where_each_would_be_left() -> None:
    guide = known_guides(HOPELESS)
    assert guide.open([]) == (0, 1)
    whole = guide.bases[0].guide.told(
        Candidate({"stem": 0.0, "neck": 0.0, "head": 0.0}), {"map50_95": 0.5}, None, False
    )
    better = [Observation(whole.point, 1.0, 0.01, base=base) for base in (0, 1) for _ in range(20)]
    assert guide.open(better) == (0, 1)
