"""Promotion: what is worth more, more training of what is there or something new; exact across restarts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from search.propose.guided import Guide
from search.propose.optuna_backend.storage import sqlite_url
from search.propose.optuna_proposer import OptunaProposer
from search.propose.promotion import LONGEST, RECENT, Aim, Effort, Tuned, promotion
from search.testing.contracts import ProposerContract
from search.testing.known_front import OBJECTIVES, LearningEvaluator, known_guide, known_space
from search.trial import Candidate, Promotion, Trial, TrialState

FEW = Candidate({"stem": 0.5})
FRONT = Aim()


def tried(
    number: int,
    cost: float,
    share: float | None,
    *,
    epochs: float = 4,
    seconds: float = 40,
    of: Promotion | None = None,
) -> Tuned:
    candidate = Candidate({"stem": number / 100}, promotion=of)
    return Tuned(cost, share, Effort(number, candidate, epochs, seconds))


def ladder(*last: Tuned) -> list[Tuned]:
    """Six trials along a front, the farthest of which has lost half, and more."""
    shares = (1.0, 0.99, 0.95, 0.85, 0.7, 0.5)
    costs = (0.9, 0.75, 0.6, 0.5, 0.4, 0.3)
    return [*(tried(n, c, s) for n, (c, s) in enumerate(zip(costs, shares, strict=True))), *last]


def idle(count: int = RECENT) -> list[Tuned]:
    """New candidates that add nothing."""
    return [tried(10 + n, 0.95, 0.6) for n in range(count)]


def test_while_new_candidates_add_to_the_front_none_is_promoted() -> None:
    assert promotion(ladder(), frozenset(), FRONT) is None


def test_when_they_add_nothing_the_front_is_trained_further() -> None:
    found = promotion(ladder(*idle()), frozenset(), FRONT)
    assert found is not None and found.promotion is not None
    assert found.promotion.had == found.promotion.epochs == 4, "as many as it has had"
    parent = ladder()[found.promotion.trial or 0]
    assert parent.effort is not None
    assert found == replace(parent.effort.candidate, promotion=found.promotion), "its very candidate"
    assert parent.share is not None and parent.share < 0.9, "of those that lost much"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda one: replace(one, share=0.995), id="nothing lost"),
        pytest.param(lambda one: replace(one, effort=replace(one.effort, epochs=0)), id="no epochs needed"),
        pytest.param(lambda one: replace(one, effort=replace(one.effort, epochs=None)), id="epochs unknown"),
        pytest.param(lambda one: replace(one, share=None), id="screened"),
        pytest.param(lambda one: replace(one, share=0.0), id="all lost, so nothing says that more helps"),
        pytest.param(lambda one: replace(one, whole=one.share), id="a smaller base, of which nothing is lost"),
        pytest.param(lambda one: replace(one, effort=replace(one.effort, seconds=1.0)), id="many times longer"),
    ],
)
def test_what_has_nothing_to_gain_is_not_promoted(change: Callable[[Tuned], Tuned]) -> None:
    known = [*map(change, ladder()), *idle()]
    if known[0].effort is not None and known[0].effort.seconds == 1.0:  # as parents; new ones are quicker still
        known = [*ladder(), *(replace(one, effort=replace(one.effort, seconds=39 / LONGEST)) for one in idle(12))]
    assert promotion(known, frozenset(), FRONT) is None


def test_copies_and_trials_without_a_record_are_on_the_front_and_do_not_go_on() -> None:
    """A copy costs no second, so it would win everything; it has no weights."""
    copies = [replace(one, effort=None) for one in ladder()]
    assert promotion([*copies, *idle(12)], frozenset(), FRONT) is None
    covered = [replace(one, effort=None, share=1.0, cost=0.2) for one in ladder()[:1]]
    assert promotion([*covered, *ladder(), *idle()], frozenset(), FRONT) is None, "nothing is on the front but a copy"
    assert promotion([*ladder(), *idle()], frozenset(range(6)), FRONT) is None, "others continue them"


def test_what_is_beaten_by_a_base_as_it_is_is_not_trained_further() -> None:
    assert promotion([*ladder(), *idle()], frozenset(), Aim(free=((0.25, 0.95),))) is not None, "the near ones"
    assert promotion([*ladder(), *idle()], frozenset(), Aim(free=((0.25, 1.0),))) is None


def test_nothing_is_begun_that_takes_longer_than_is_left() -> None:
    assert promotion([*ladder(), *idle()], frozenset(), FRONT, most_s=41) is not None
    assert promotion([*ladder(), *idle()], frozenset(), FRONT, most_s=39) is None


def test_nobody_is_continued_twice() -> None:
    known, taken = ladder(*idle()), set[int]()
    while (found := promotion(known, taken, FRONT)) is not None:
        assert found.promotion is not None and found.promotion.trial is not None
        assert found.promotion.trial not in taken
        taken.add(found.promotion.trial)
    assert len(taken) >= 3


def test_a_chain_goes_on_from_its_last_trial_with_twice_the_epochs() -> None:
    last = tried(20, 0.3, 0.55, epochs=8, seconds=40, of=Promotion(5, 4, 4))
    low = [replace(one, share=1.0) if one.effort.trial < 5 else one for one in ladder()]
    found = promotion([*low, last, *idle()], {5}, FRONT)
    assert found is not None and found.promotion == Promotion(20, 8, 8)


def test_promotions_that_gave_nothing_make_the_next_less_likely() -> None:
    """What they gave corrects the power: the same standing, with three that did well and three that did nothing."""

    def standing(gain: float) -> list[Tuned]:
        parents = [tried(30 + n, 0.98, 0.5) for n in range(3)]
        children = [tried(40 + n, 0.98, 0.5 + gain, epochs=8, of=Promotion(30 + n, 4, 4)) for n in range(3)]
        slow = [replace(one, effort=Effort(50 + n, FEW, 4, 4.0)) for n, one in enumerate(idle(RECENT - 1))]
        return [*parents, *children, *ladder(), *slow, tried(60, 0.35, 0.605, seconds=22)]

    taken = {30, 31, 32, 40, 41, 42}
    assert promotion(standing(0.3), taken, FRONT) is not None
    assert promotion(standing(0.0), taken, FRONT) is None


def test_for_a_budget_only_what_is_within_it_counts() -> None:
    within = [(0.5, 0.8), (0.7, 0.95)]
    assert Aim(0.6).adds(within, 0.55, 0.9) == pytest.approx(0.1)
    assert Aim(0.6).adds(within, 0.65, 0.9) == 0.0
    assert Aim(0.6).adds(within, 0.4, 0.7) == 0.0


def opened(folder: Path, guide: Guide) -> OptunaProposer:
    return OptunaProposer(
        sqlite_url(folder / "study.db"), "known", known_space(), OBJECTIVES, opening=guide.opening(), guide=guide
    )


def searched(folder: Path, trials: int, reopen_at: Sequence[int] = ()) -> list[Trial]:
    """Ask, measure, tell; reopened between an ask and its tell at some numbers."""
    guide, found = replace(known_guide(), promotes=True), []
    proposer, evaluator = opened(folder, guide), LearningEvaluator()
    for number in range(trials):
        proposal = proposer.ask()
        if number in reopen_at:
            proposer.close()
            proposer = opened(folder, replace(known_guide(), promotes=True))
            (again,) = proposer.history().pending
            assert again == proposal
        measured = evaluator.evaluate(proposal.candidate, number, 0, folder, proposal.screening)
        proposer.tell(number, measured)
        state = TrialState.SCREENED if measured.screened else TrialState.COMPLETE
        found.append(Trial(number, state, proposal.candidate, measured, source=proposal.source))
    proposer.close()
    return found


def promoted(trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.candidate.promotion is not None]


def test_a_search_promotes_and_repeats_itself_across_restarts(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = searched(tmp_path / "whole", 36)
    further = promoted(whole)
    assert len(further) >= 3 and {trial.source for trial in further} == {"promoted"}
    parents = [trial.candidate.promotion.trial for trial in further if trial.candidate.promotion is not None]
    assert len(set(parents)) == len(parents)
    assert all(b.number > a.number + 1 for a, b in itertools.pairwise(further)), "never two in a row"
    cuts = [further[0].number, further[-1].number, further[-1].number + 1]
    again = searched(tmp_path / "cut", 36, reopen_at=cuts)
    assert [(t.candidate, t.source) for t in again] == [(t.candidate, t.source) for t in whole]


def test_a_lost_storage_gets_its_promotions_back(tmp_path: Path) -> None:
    (tmp_path / "lost").mkdir()
    known = searched(tmp_path, 36)
    running = replace(promoted(known)[-1], number=36, state=TrialState.RUNNING, measurement=None)
    proposer = opened(tmp_path / "lost", replace(known_guide(), promotes=True))
    proposer.adopt([*known, running])
    history = proposer.history()
    assert {number: told.candidate for number, told in history.told.items()} == {t.number: t.candidate for t in known}
    assert [one.candidate for one in history.pending] == [running.candidate]
    proposer.close()


class TestPromotingProposer(ProposerContract):
    """The contract of every proposer."""

    @pytest.fixture
    def opened(self, tmp_path: Path) -> Callable[[], OptunaProposer]:
        return lambda: opened(tmp_path, replace(known_guide(), promotes=True))


def test_a_promotion_is_part_of_what_a_candidate_is_and_old_digests_stay() -> None:
    assert "promotion" not in FEW.to_json()
    further = FEW.promoted(Promotion(3, 4, 8))
    assert Candidate.from_json(further.to_json()) == further != FEW
    assert further.from_base().promotion == Promotion(None, 4, 8) and FEW.from_base() is FEW
    assert Candidate.from_json(further.from_base().to_json()) == further.from_base()
