from __future__ import annotations

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectives import Estimate, Objective, ObjectiveError, objectives_named, pareto
from objectives.pareto import (
    GrowingVolume,
    Row,
    costs,
    fronts,
    hypervolume,
    pareto_front,
    significant_front,
    undominated,
    volume_corner,
)

TWO = objectives_named(["map50_95", "latency_ms"])
THREE = objectives_named(["map50_95", "latency_ms", "params_m"])


def dominates(a: Row, b: Row, objectives: tuple[Objective, ...]) -> bool:
    return 1 not in undominated([a, b], objectives)


def exact(*figures: float) -> Row:
    return {o.name: Estimate.exact(x) for o, x in zip(THREE, figures, strict=False)}


def about(figures: tuple[float, ...], widths: tuple[float, ...]) -> Row:
    return {o.name: Estimate(x, x - w, x + w) for o, x, w in zip(THREE, figures, widths, strict=False)}


grid = st.integers(0, 6).map(float)
exact_rows = st.lists(st.tuples(grid, grid, grid).map(lambda t: exact(*t)), min_size=1, max_size=14)
estimates = st.tuples(grid, st.integers(0, 4), st.integers(0, 4)).map(
    lambda t: Estimate(t[0], t[0] - t[1] / 2, t[0] + t[2] / 2)
)
noisy_row = st.fixed_dictionaries({o.name: estimates for o in THREE})
noisy_rows = st.lists(noisy_row, min_size=1, max_size=12)


@given(exact_rows)
def test_exact_figures_give_the_usual_front(rows: list[Row]) -> None:
    table = np.array([[r[o.name].value for o in THREE] for r in rows])
    kept = moocore.is_nondominated(table, maximise=[True, False, False], keep_weakly=True)
    assert pareto_front(rows, THREE) == significant_front(rows, THREE) == tuple(np.flatnonzero(kept))


def test_a_slower_model_that_is_better_within_the_error_is_on_the_plain_front_only() -> None:
    rows = [about((0.500, 4.0), (0.01, 0.1)), about((0.501, 8.0), (0.01, 0.1))]
    assert pareto_front(rows, TWO) == (0, 1)
    assert significant_front(rows, TWO) == (0,)


def test_a_model_that_is_worse_within_the_errors_only_is_on_the_significant_front() -> None:
    """Neither is better beyond the errors: they are the same, as far as anybody knows."""
    rows = [about((0.501, 4.0), (0.01, 0.1)), about((0.500, 4.01), (0.01, 0.1))]
    assert pareto_front(rows, TWO) == (0,)
    assert significant_front(rows, TWO) == (0, 1)


def beats(a: Row, b: Row) -> bool:
    """Better beyond both errors somewhere, and nowhere so the other way round; from the definition, row by row."""
    ours, theirs = costs([a], THREE), costs([b], THREE)
    return bool((ours.bad < theirs.good).any() and not (theirs.bad < ours.good).any())


@given(noisy_rows)
def test_front_is_never_empty_and_whoever_is_out_is_dominated_or_beaten_by_a_member(rows: list[Row]) -> None:
    members = significant_front(rows, THREE)
    assert members
    for i in set(range(len(rows))) - set(members):
        dominated = any(dominates(row, rows[i], THREE) for row in rows)
        assert dominated or any(beats(rows[j], rows[i]) for j in members)


@given(noisy_rows, noisy_rows)
def test_whoever_is_on_a_later_front_is_undominated_now(rows: list[Row], later: list[Row]) -> None:
    """So the weights of the others may be deleted."""
    now = set(undominated(rows, THREE))
    assert set(significant_front(rows, THREE)) <= now
    assert {i for i in significant_front([*rows, *later], THREE) if i < len(rows)} <= now


@given(noisy_rows)
def test_a_member_is_beaten_by_nobody_but_its_own_circle(rows: list[Row]) -> None:
    members = significant_front(rows, THREE)
    reaches = {i: {j for j in members if beats(rows[i], rows[j])} for i in members}
    for i in members:
        for j in reaches[i]:  # a way back from j to i, over members
            seen, todo = set(), [j]
            while todo:
                here = todo.pop()
                seen.add(here)
                todo += [k for k in reaches[here] if k not in seen]
            assert i in seen


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20), st.floats(0, 1))
def test_noise_makes_no_members(noise: list[float], slower: float) -> None:
    """Models that are slower and no better: whatever their accuracy comes out at, within its error."""
    best = about((0.5, 5.0, 1.0), (0.01, 0.05, 0.0))
    others = [about((0.5 + 0.01 * e, 5.2 + slower, 1.0 + slower), (0.01, 0.05, 0.0)) for e in noise]
    assert significant_front([best, *others], THREE) == (0,)


def test_in_a_chain_of_ties_the_ends_that_differ_are_both_there() -> None:
    """Each row ties in accuracy with its two neighbours on either side, and is clearly slower than the one before."""
    chain = [about((0.50 + 0.01 * k, 5.0 + k), (0.012, 0.1)) for k in range(7)]
    assert significant_front(chain, TWO) == (0, 3, 6)


@given(noisy_rows, st.randoms())
def test_order_of_rows_does_not_matter(rows: list[Row], random: object) -> None:
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = significant_front([rows[i] for i in order], THREE)
    assert {order[i] for i in shuffled} == set(significant_front(rows, THREE))


@given(noisy_rows, noisy_row)
def test_adding_a_dominated_row_changes_nothing(rows: list[Row], extra: Row) -> None:
    if any(dominates(row, extra, THREE) for row in rows):
        assert significant_front([*rows, extra], THREE) == significant_front(rows, THREE)


@given(noisy_row, noisy_row, noisy_row)
def test_dominance_is_a_strict_partial_order(a: Row, b: Row, c: Row) -> None:
    assert not dominates(a, a, THREE)
    assert not (dominates(a, b, THREE) and dominates(b, a, THREE))
    if dominates(a, b, THREE) and dominates(b, c, THREE):
        assert dominates(a, c, THREE)


def test_a_difference_inside_the_intervals_evicts_nobody() -> None:
    a, b = about((0.50, 5.0), (0.02, 0.1)), about((0.49, 5.05), (0.02, 0.1))
    assert significant_front([a, b], TWO) == (0, 1)


def test_a_clear_difference_in_one_objective_and_a_tie_in_the_other_evicts() -> None:
    a, b = about((0.50, 5.0), (0.02, 0.1)), about((0.49, 6.0), (0.02, 0.1))
    assert significant_front([a, b], TWO) == (0,)


def test_a_circle_of_clear_wins_leaves_all() -> None:
    """a beats b in accuracy, b beats c in latency, c beats a in size, and all else overlaps."""
    circle = [
        about((5.0, 3.0, 5.0), (0.1, 3.0, 0.1)),
        about((1.0, 1.0, 3.0), (0.1, 0.1, 3.0)),
        about((3.0, 5.0, 1.0), (3.0, 0.1, 0.1)),
    ]
    assert all(not_clearly_worse_and_once_better(circle[i], circle[(i + 1) % 3]) for i in range(3))
    assert significant_front(circle, THREE) == (0, 1, 2)


def not_clearly_worse_and_once_better(a: Row, b: Row) -> bool:
    """The relation that this room does not use: it would leave nothing of a circle."""
    table = costs([a, b], THREE)
    return bool((table.good[0] <= table.bad[1]).all() and (table.bad[0] < table.good[1]).any())


def test_equal_rows_all_stay() -> None:
    assert significant_front([exact(0.5, 5, 1)] * 3, THREE) == (0, 1, 2)


def test_no_rows() -> None:
    assert significant_front([], TWO) == pareto_front([], TWO) == ()
    assert hypervolume([], TWO, {"map50_95": 0, "latency_ms": 10}) == 0


def test_hypervolume_of_known_rectangles() -> None:
    rows = [exact(0.4, 4), exact(0.6, 8)]
    assert hypervolume(rows, TWO, {"map50_95": 0.2, "latency_ms": 10}) == pytest.approx(0.2 * 6 + 0.2 * 2)


def test_rows_beyond_the_reference_add_nothing() -> None:
    reference = {"map50_95": 0.5, "latency_ms": 5}
    assert hypervolume([exact(0.4, 1), exact(0.9, 6)], TWO, reference) == 0


@given(exact_rows)
def test_hypervolume_is_that_of_the_front(rows: list[Row]) -> None:
    reference = {"map50_95": -1.0, "latency_ms": 7.0, "params_m": 7.0}
    on_front = [rows[i] for i in significant_front(rows, THREE)]
    assert hypervolume(rows, THREE, reference) == pytest.approx(hypervolume(on_front, THREE, reference))


@pytest.mark.parametrize("reference", [{"map50_95": 0.0}, {"map50_95": 0.0, "latency_ms": float("nan")}])
def test_reference_is_complete_and_finite(reference: dict[str, float]) -> None:
    with pytest.raises(ObjectiveError, match="reference"):
        hypervolume([exact(0.4, 4)], TWO, reference)


def test_missing_figure_and_missing_objectives_are_named() -> None:
    with pytest.raises(ObjectiveError, match="row 1 has no figure for latency_ms"):
        significant_front([exact(0.4, 4), exact(0.4)], TWO)
    with pytest.raises(ObjectiveError, match="at least one"):
        significant_front([exact(0.4, 4)], [])


@given(st.lists(noisy_row, min_size=1, max_size=30))
def test_blocks_find_what_the_definition_finds(rows: list[Row]) -> None:
    """Compared in blocks of four rows, as thousands are in blocks of 256; dominance written out again."""
    table = costs(rows, THREE)

    def dominates(a: int, b: int) -> bool:
        is_not_worse = (table.value[a] <= table.value[b]).all() and (table.bad[a] <= table.bad[b]).all()
        return bool(is_not_worse and (table.bad[a] < table.good[b]).any())

    expected = [b for b in range(len(rows)) if not any(dominates(a, b) for a in range(len(rows)))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pareto, "_BLOCK", 4)
        found = fronts(rows, THREE)
    assert list(found.undominated) == expected
    assert found.significant == significant_front(rows, THREE)


@given(st.lists(st.tuples(grid, grid, grid), min_size=1, max_size=20), st.integers(0, 20))
def test_a_growing_volume_is_the_volume_of_all_points_so_far(points: list[tuple[float, ...]], known: int) -> None:
    rows, reference = [exact(*point) for point in points], {"map50_95": 1.0, "latency_ms": 5.0, "params_m": 5.0}
    table, known = costs(rows, THREE).value, min(known, len(points))
    volume = GrowingVolume(table[:known], volume_corner(THREE, reference))
    found = [volume.add(point) for point in table[known:]]
    expected = [hypervolume(rows[: end + 1], THREE, reference) for end in range(known, len(rows))]
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)
