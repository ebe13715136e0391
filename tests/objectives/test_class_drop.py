from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectives.class_drop import largest_drop

ACCURACIES = st.dictionaries(st.sampled_from("abcde"), st.floats(0, 1), min_size=1)


@given(ACCURACIES, ACCURACIES)
def test_no_class_lost_more_and_the_named_one_lost_that(before: dict[str, float], after: dict[str, float]) -> None:
    found = largest_drop(before, after, {})
    assert found is not None
    name, drop = found
    assert drop.value == before[name] - after.get(name, 0.0)
    assert all(before[key] - after.get(key, 0.0) <= drop.value for key in before)


def test_the_error_is_that_of_the_class_that_lost_most() -> None:
    found = largest_drop({"a": 0.6, "b": 0.5}, {"a": 0.55, "b": 0.3}, {"a": 0.5, "b": 0.02})
    assert found is not None and found[0] == "b"
    assert found[1].value == pytest.approx(0.2) and found[1].standard_error == pytest.approx(0.02)


def test_a_class_that_is_gone_has_lost_all_and_a_new_one_nothing() -> None:
    found = largest_drop({"a": 0.4}, {"b": 0.9}, {})
    assert found is not None and found[0] == "a" and found[1].value == 0.4
    assert largest_drop({}, {"a": 0.5}, {}) is None
