"""What may be wrong is said, and nothing is said of a search without a blemish; the morning's sentences."""

from __future__ import annotations

from typing import Any

import pytest

from search.present.health import health
from search.present.summary import summary
from search.propose.screening import LOWEST
from tests.search.present import snapshots


def kinds(snapshot: dict[str, Any]) -> list[str]:
    return [finding["kind"] for finding in health(snapshot)]


def sound(**changes: Any) -> dict[str, Any]:
    """A search about which nothing can be said."""
    content = snapshots.build(60)
    for row in content["trials"]:
        row["state"], row["error"] = ("complete", None) if row["figures"] else (row["state"], row["error"])
        for name in row["candidate"]["ratios"]:
            row["candidate"]["ratios"][name] = min(row["candidate"]["ratios"][name], 0.6)
    content["study"] = {**content["study"], "space": {"ratio": [0.0, 0.8]}}
    content["progress"] = {**content["progress"], "failed": 0}
    content["hypervolume"] = [{"trial": n, "value": 1 + n} for n in range(60)]
    return {**content, **changes}


def test_a_sound_search_has_nothing_to_hear() -> None:
    assert kinds(sound()) == []


def test_a_space_that_ends_where_the_good_trials_are() -> None:
    content = sound()
    for row in content["trials"]:
        row["candidate"]["ratios"]["model.5"] = 0.795
    (finding,) = health(content)
    assert finding["kind"] == "bound" and finding["level"] == "warn"
    assert "model.5" in finding["text"] and "space.ratio=[0, 0.9]" in finding["hint"]


def test_a_flat_front() -> None:
    content = sound()
    for row in content["trials"]:
        if row["figures"]:
            row["figures"]["map50_95"] = {"value": 0.4, "low": 0.385, "high": 0.415}
    assert kinds(content) == ["flat", "accuracy"]


@pytest.mark.parametrize("how", ["wide", "flagged"])
def test_noisy_latency(how: str) -> None:
    content = sound()
    for row in [row for row in content["trials"] if row["figures"]][::3]:
        found = row["figures"]["latency_ms"]
        if how == "wide":
            row["figures"]["latency_ms"] = {
                "value": found["value"],
                "low": 0.9 * found["value"],
                "high": 1.1 * found["value"],
            }
        else:
            row["notes"] = ["latency: more than 5 % of the time another process had the processor"]
    assert kinds(content) == ["latency"]


@pytest.mark.parametrize(
    ("correlation", "found"), [(0.9, []), (None, []), (0.2, ["rungs"]), (0.0, ["rungs"]), (-0.3, ["rungs"])]
)
def test_a_score_that_misleads(correlation: float | None, found: list[str]) -> None:
    rows = [{"name": "outputs before the fine-tune", "correlation": correlation}, {"name": "other", "correlation": 0.9}]
    assert kinds(sound(rungs=rows)) == found


def test_the_hint_about_a_misleading_score_says_when_nothing_is_screened() -> None:
    (finding,) = health(sound(rungs=[{"name": "outputs before the fine-tune", "correlation": 0.0, "trials": 20}]))
    assert "outputs before the fine-tune (0.00)" in finding["text"]
    assert f"below {LOWEST:g} none" in finding["hint"]


def test_a_search_that_has_little_left_to_find() -> None:
    flat = [{"trial": n, "value": min(n, 30) / 30} for n in range(60)]
    assert kinds(sound(hypervolume=flat)) == ["stalled"]
    assert kinds(sound(hypervolume=flat[:12])) == [], "too early to say"


def test_many_failures() -> None:
    content = sound()
    content["progress"] = {**content["progress"], "failed": 9}
    assert kinds(content) == ["failures"]


def test_warnings_come_first() -> None:
    content = sound(
        hypervolume=[{"trial": n, "value": 1.0} for n in range(60)], rungs=[{"name": "a", "correlation": 0.1}]
    )
    assert kinds(content) == ["rungs", "stalled"]


def test_a_search_that_has_measured_nothing_is_healthy_enough() -> None:
    empty = snapshots.build(0, state="running", base=None, verdict="", groups=[], hypervolume=[])
    assert health(empty) == []
    assert summary(empty)[0].startswith("drone-5ms is running: 0 of 0 trials")


def test_the_summary_says_what_a_person_asks_in_the_morning() -> None:
    content = sound()
    lines = summary(content)
    number = content["picks"]["edge"]["trial"]
    assert lines[0].startswith("drone-5ms has finished: ") and "none failed" in lines[0]
    assert lines[1] == content["verdict"]
    assert lines[2].startswith(f"edge (latency <= 5 ms): trial {number}, mAP50-95 0.") and "as fast" in lines[2]
    assert not any(line.startswith("Look at") for line in lines)


def test_the_summary_names_warnings_baselines_and_budgets_that_nothing_meets() -> None:
    figures = {
        "map50_95": {"value": 0.47, "low": 0.46, "high": 0.48},
        "latency_ms": {"value": 6.0, "low": 5.9, "high": 6.1},
    }
    content = sound(
        baselines=[{"name": "uniform 0.3", "figures": figures, "note": ""}],
        rungs=[{"name": "a", "correlation": 0.1}],
        budgets={"tiny": {"latency_ms": 0.1}},
        picks={"tiny": {"trial": None, "sentence": ""}},
    )
    text = "\n".join(summary(content))
    assert "tiny (latency <= 0.1 ms): nothing fits yet." in text
    assert "For comparison, uniform 0.3: mAP50-95 0.470" in text
    assert text.endswith("Look at: A cheap score misleads.")
