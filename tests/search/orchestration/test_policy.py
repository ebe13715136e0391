"""What decides beside the limits how a search goes on; nothing is computed where no limit needs it."""

from __future__ import annotations

from pathlib import Path

from search.orchestration.policy import StudyPolicy
from search.results.results import Results
from search.run_folder.disk import DiskSpace
from search.study import Study
from search.testing.known_front import KnownFront
from tests.search.conftest import MakeStudy


def policy(study: Study, claims: list[str]) -> StudyPolicy:
    def unasked() -> Results:
        raise AssertionError("no limit needs the results")

    prepared = KnownFront()(study.spec, study.record)
    results = study.results if study.spec.search.hours or study.spec.search.patience else unasked
    return StudyPolicy(study.spec, prepared, DiskSpace(Path(), 0), results, lambda: claims.append("renewed"))


def test_without_limits_of_time_and_patience_no_results_are_needed(make_study: MakeStudy) -> None:
    claims: list[str] = []
    plain = policy(make_study(), claims)
    plain.renew_claim()
    assert (plain.reserve_s(60.0), plain.is_flat(range(99)), claims) == (0.0, False, ["renewed"])


def test_time_is_reserved_for_the_repeats_of_the_picks(make_study: MakeStudy) -> None:
    study = make_study(**{"search.hours": 1, "search.confirm": 3, "budgets": {"a": {"latency_ms": 5}}})
    assert policy(study, []).reserve_s(60.0) == 2 * 60.0


def test_a_front_that_does_not_grow_is_flat(make_study: MakeStudy) -> None:
    study = make_study(**{"search.trials": 4, "search.patience": 3}).search()
    assert not policy(study, []).is_flat(range(3))
    assert policy(study, []).is_flat(range(40))
