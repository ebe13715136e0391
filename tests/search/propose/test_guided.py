"""The guide: repeats itself, learns what sensitivity got wrong, meets named budgets, and beats every other sampler."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from objectives.pareto import hypervolume
from search.propose.allocation import CostOf, Vector
from search.propose.front_area import added_volume
from search.propose.guided import Guide, Observation, Point, Timed, Variant, front_of
from search.propose.initial_candidates import opening
from search.propose.optuna_backend.storage import sqlite_url
from search.propose.optuna_proposer import OptunaProposer
from search.testing.contracts import ProposerContract
from search.testing.known_front import (
    DIMENSIONS,
    OBJECTIVES,
    KnownCost,
    KnownFrontEvaluator,
    known_figures,
    known_guide,
    known_space,
)
from search.trial import Candidate, Measurement

WRONG = (3.0, 1.0, 0.33)
"""Sensitivity that is wrong by a factor of nine between the first and the last dimension."""
PLANE = OBJECTIVES[:2]
FULL = int(known_guide().allocator.full[0])
WORST = {"map50_95": 0.0, "latency_ms": 10.5}


def searched(folder: Path, sampler: str, trials: int, seed: int, guide: Guide | None = None) -> list[Measurement]:
    """A search without a loop: ask, measure, tell."""
    space = known_space()
    proposer = OptunaProposer(
        sqlite_url(folder / f"{sampler}-{seed}.db"),
        "known",
        space,
        OBJECTIVES,
        sampler=sampler,
        seed=seed,
        opening=opening(space) if guide is None else guide.opening(),
        guide=guide,
    )
    found = []
    for _ in range(trials):
        proposal = proposer.ask()
        measured = KnownFrontEvaluator().evaluate(proposal.candidate, 0, 0, folder, proposal.screening)
        proposer.tell(proposal.number, measured)
        if not measured.screened:
            found.append(measured)
    proposer.close()
    return found


def regret(found: Sequence[Measurement]) -> float:
    """Share of the true hypervolume that is missing."""
    return 1 - hypervolume([m.figures for m in found], PLANE, WORST) / true_volume()


def true_volume() -> float:
    """Of the true front: ratios proportional to 1 / weight (Lagrange), finely sampled."""
    weights = 1 + np.arange(len(DIMENSIONS))
    rows = [
        known_figures({n: min(0.8, level / w) for n, w in zip(DIMENSIONS, weights.tolist(), strict=True)})
        for level in np.linspace(0, 2.4, 200).tolist()
    ]
    return hypervolume(rows, PLANE, WORST)


class TestGuidedProposer(ProposerContract):
    """The contract of every proposer."""

    @pytest.fixture
    def opened(self, tmp_path: Path) -> Callable[[], OptunaProposer]:
        guide = known_guide()

        def open_again() -> OptunaProposer:
            storage = sqlite_url(tmp_path / "study.db")
            return OptunaProposer(storage, "known", known_space(), OBJECTIVES, opening=guide.opening(), guide=guide)

        return open_again


def test_the_same_seed_gives_the_same_trials(tmp_path: Path) -> None:
    runs = []
    for turn in ("a", "b"):
        (tmp_path / turn).mkdir()
        runs.append([m.widths for m in searched(tmp_path / turn, "auto", 14, 5, known_guide(5, WRONG))])
    (tmp_path / "c").mkdir()
    assert runs[0] == runs[1]
    assert runs[0] != [m.widths for m in searched(tmp_path / "c", "auto", 14, 6, known_guide(6, WRONG))]


@pytest.fixture(scope="module")
def guided(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Regrets of 30 trials, of three seeds, with a sensitivity that is badly wrong."""
    folder = tmp_path_factory.mktemp("guided")
    return [regret(searched(folder, "auto", 30, seed, known_guide(seed, WRONG))) for seed in range(3)]


def test_regret_is_small(guided: list[float]) -> None:
    assert statistics.median(guided) < 0.035


@pytest.mark.parametrize(
    "sampler", ["tpe", *(pytest.param(s, marks=pytest.mark.slow) for s in ("random", "qmc", "nsga2"))]
)
def test_regret_is_below_that_of_every_other_sampler(sampler: str, guided: list[float], tmp_path: Path) -> None:
    """30 trials each, three seeds; quickly by the one that learns, and from the same trials."""
    other = [regret(searched(tmp_path, sampler, 30, seed)) for seed in range(3)]
    assert max(guided) < 0.6 * statistics.median(other)


def test_trials_correct_a_wrong_sensitivity(tmp_path: Path) -> None:
    """After the opening, what was overpriced is pruned harder than the prices alone would."""
    guide = known_guide(0, WRONG)
    opened = len(guide.opening())
    found = searched(tmp_path, "auto", 40, 0, guide)
    priced = regret(found[:opened])
    assert regret(found) < 0.6 * priced


def test_named_budgets_are_met_from_the_first_trial_on(tmp_path: Path) -> None:
    guide = known_guide(targets=(0.62,))
    nearest, first, *_ = guide.opening()
    assert guide.allocator.cost(guide.allocator.vector(nearest)) > 0.7, "it has next to nothing to repair"
    measured = KnownFrontEvaluator().evaluate(first, 0, 0, tmp_path)
    assert 0.55 * 10 < measured.figures["latency_ms"].value <= 0.62 * 10
    told = [guide.told(c, values(c), 0.0, False) for c in guide.opening()]
    aimed = [guide.advise(number, told) for number in range(10, 14)]
    assert [a.source for a in aimed] == ["guided:budget", "guided:front"] * 2
    assert all(guide.allocator.cost(guide.allocator.vector(a.candidate)) <= 0.62 for a in aimed[::2])


class FirstHalved:
    """A budget that halves the first dimension, whatever that does to the cost."""

    def over(self, cost: CostOf, time: float = 1.0, work: float = 1.0) -> CostOf:
        """See `LimitedBudget`."""
        return lambda widths, removed: widths[:, 0] / (FULL / 2)


def test_budgets_of_other_figures_have_their_turns() -> None:
    """First in the opening, then every other trial, in turns with the budgets of the cost."""
    guide = replace(known_guide(targets=(0.62,)), limits=(FirstHalved(),))
    opening = guide.opening()
    told = [guide.told(c, values(c), 0.0, False) for c in opening]
    aimed = [guide.advise(number, told).candidate for number in (8, 10, 12, 14)]

    def halved(candidate: Candidate) -> bool:
        widths = guide.allocator.widths(guide.allocator.vector(candidate))
        return bool(widths[0] == FULL / 2 and (widths[1:] == FULL).all())

    assert halved(opening[1])
    assert [halved(one) for one in aimed] == [False, True, False, True]


class Scaled:
    """Learns one factor by which the costs were wrong."""

    def costs(self, timed: Sequence[Timed]) -> CostOf:
        """See `CostRefitter`."""
        factor = np.mean([one.ratio / KnownCost()(np.array([one.widths]), one.removed)[0] for one in timed])
        return lambda widths, removed: factor * KnownCost()(widths, removed)

    def measured(self, timed: Timed) -> float:
        """See `CostRefitter`."""
        return timed.ratio


def test_costs_are_learned_from_what_trials_measured() -> None:
    """Everything is 1.25 times as slow as predicted: after a trial, budgets are met in measured time."""
    guide = replace(known_guide(targets=(0.62,)), base_ms=10.0, relearning=Scaled())

    def told(candidate: Candidate, screened: bool = False) -> Observation:
        figures = values(candidate)
        return guide.told(candidate, {**figures, "latency_ms": 1.25 * figures["latency_ms"]}, 0.0, screened)

    def cost(candidate: Candidate) -> float:
        return 1.25 * values(candidate)["latency_ms"] / 10

    first = told(guide.opening()[0])
    assert first.cost == pytest.approx(cost(guide.opening()[0]))
    assert cost(guide.advise(10, [told(guide.opening()[0], screened=True)]).candidate) > 0.65
    aimed = guide.advise(10, [first]).candidate
    assert 0.55 < cost(aimed) <= 0.62
    assert guide.advise(10, [first]).candidate == aimed


def test_what_was_measured_is_not_proposed_again(tmp_path: Path) -> None:
    widths = [tuple(m.widths.items()) for m in searched(tmp_path, "auto", 30, 1, known_guide(1, WRONG))]
    assert len(set(widths)) >= 0.9 * len(widths)


def test_added_volume_is_the_difference_of_two_hypervolumes() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        points = random.uniform(0.1, 1.0, (5, 2))
        front = front_of([_told(float(c), float(s)) for c, s in points])
        cost, share = random.uniform(0.1, 1.0, 2).tolist()
        assert added_volume(front, cost, share) == pytest.approx(area([*front, (cost, share)]) - area(list(front)))


def area(points: list[tuple[float, float]]) -> float:
    """Of what the points dominate, by a sweep over a fine grid of costs' own breakpoints."""
    edges = sorted({cost for cost, _ in points} | {1.05})
    heights = [max((s for c, s in points if c <= left), default=0.0) for left in edges[:-1]]
    return sum(h * (right - left) for h, left, right in zip(heights, edges, edges[1:], strict=False))


def _told(cost: float, share: float) -> Observation:
    return Observation(Point(Vector(()), Variant(640)), share, cost)


def values(candidate: Candidate) -> dict[str, float]:
    figures = KnownFrontEvaluator().evaluate(candidate, 0, 0, Path()).figures
    return {name: estimate.value for name, estimate in figures.items()}


def test_smaller_inputs_join_the_front_where_they_are_the_better_bargain() -> None:
    """At 480 px the base keeps 91 % of its accuracy at 56 % of its cost, at 320 px 85 % at a quarter."""
    true = [known_figures(dict.fromkeys(DIMENSIONS, 0.0), size) for size in (640, 480, 320)]
    variants = [
        Variant(size, "fp32", figures["latency_ms"].value / 10, figures["map50_95"].value / 0.5)
        for size, figures in zip((640, 480, 320), true, strict=True)
    ]
    volumes = []
    for sizes in (variants, variants[:1]):
        guide = replace(known_guide(), variants=tuple(sizes))
        found = list(guide.opening())
        told = [guide.told(c, values(c), None, False) for c in found]
        for number in range(len(found), 30):
            found.append(guide.advise(number, told).candidate)
            told.append(guide.told(found[-1], values(found[-1]), None, False))
        rows = [KnownFrontEvaluator().evaluate(c, 0, 0, Path()).figures for c in found]
        volumes.append(hypervolume(rows, PLANE, WORST))
        if len(sizes) == 3:
            assert {c.imgsz for c in found} == {640, 480, 320}
    assert volumes[0] > 1.1 * volumes[1]


def test_a_precision_is_known_once_its_unpruned_model_was_tried() -> None:
    """INT8 begins as neutral. With 98 % of the accuracy at 60 % of the cost, pruning goes on from there; where it
    loses a third for nothing, it is left alone."""
    small = Variant(640, "int8")
    guide = replace(known_guide(), variants=(Variant(640), small), base_ms=10.0, relearning=Scaled())

    def proposed(cost: float, share: float) -> list[str]:
        told = []
        for candidate in guide.opening():
            figures = values(candidate)
            if candidate.precision == "int8":
                figures["latency_ms"], figures["map50_95"] = cost * figures["latency_ms"], share * figures["map50_95"]
            told.append(guide.told(candidate, figures, None, False))
        assert [one.point.variant for one in told].count(small) == 1
        return [guide.advise(number, told).candidate.precision for number in range(10, 16)]

    assert proposed(0.6, 0.98).count("int8") >= 5
    assert proposed(1.0, 0.67).count("int8") <= 1


def test_what_was_screened_is_learned_from(tmp_path: Path) -> None:
    """A region that the screening refuses is not proposed for ever: its estimates correct the surrogate."""
    found = [tuple(m.widths.values()) for m in searched(tmp_path, "auto", 40, 2, known_guide(2, WRONG))]
    assert len(found) >= 30
