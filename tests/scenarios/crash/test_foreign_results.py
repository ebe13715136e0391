"""Results of another study, or figures that somebody changed, are refused by name when a run is read or goes on."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from objectives.objective import Estimate
from search.errors import RunCorrupt
from search.results.baseline_results import read_rows
from search.results.remeasured import final_path, read_final, read_repeats
from search.run_folder.atomic import write_json
from search.run_folder.record import RunRecord
from search.study import Study
from search.testing.known_front import FailingEvaluator, KnownFinalMeasurements, known_measurement
from tests.search.conftest import MakeStudy, run

TRIALS = 5
OPTIONS: dict[str, Any] = {"search.sampler": "random", "baselines": []}


def result(record: RunRecord, number: int) -> Path:
    return record.trial_dir(number) / "result.json"


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def swapped(record: RunRecord, other: RunRecord) -> None:
    first, second = (result(record, number).read_bytes() for number in (1, 3))
    result(record, 1).write_bytes(second)
    result(record, 3).write_bytes(first)


def figure(record: RunRecord, other: RunRecord) -> None:
    edit(result(record, 2), lambda row: row["measurement"]["figures"]["map50_95"].update(value=0.99, high=0.99))


def interval(record: RunRecord, other: RunRecord) -> None:
    """study.db does not know it."""
    edit(result(record, 2), lambda row: row["measurement"]["figures"]["map50_95"].update(low=0.0))


def ratio(record: RunRecord, other: RunRecord) -> None:
    edit(record.trial_dir(2) / "candidate.json", lambda row: row["candidate"]["ratios"].update(neck=0.5))


def other_trials(record: RunRecord, other: RunRecord) -> None:
    shutil.rmtree(record.path / "trials")
    shutil.copytree(other.path / "trials", record.path / "trials")


def one_other_trial(record: RunRecord, other: RunRecord) -> None:
    shutil.rmtree(record.trial_dir(4))
    shutil.copytree(other.trial_dir(4), record.trial_dir(4))


def other_base(record: RunRecord, other: RunRecord) -> None:
    edit(record.base_dir / "base.json", lambda row: row["measurement"]["figures"]["latency_ms"].update(value=10.05))


HANDS = {
    swapped: "trial 1: the result is of another candidate.*; trial 3: the result is of another candidate",
    figure: "trial 2: the result was changed",
    interval: "trial 2: the result was changed",
    ratio: "trial 2: the result is of another candidate",
    other_trials: "trial 0: the result is of another study",
    one_other_trial: "trial 4: the result is of another study",
    other_base: "trial 0: the result was measured beside another base",
}


@pytest.mark.parametrize("hand", HANDS)
def test_a_result_that_is_not_of_this_run_is_refused(
    hand: Callable[[RunRecord, RunRecord], None], make_study: MakeStudy
) -> None:
    study = make_study(**OPTIONS, **{"search.trials": TRIALS}).search()
    other = make_study(**OPTIONS, **{"search.trials": TRIALS, "search.seed": 1, "name": "other"}).search()
    hand(study.record, other.record)
    before = {path: path.read_bytes() for path in study.record.path.glob("trials/*/*.json")}
    with pytest.raises(RunCorrupt, match=HANDS[hand]) as refused:
        make_study(**OPTIONS, **{"search.trials": TRIALS + 2}).search()
    assert refused.value.exit_code == 5 and "restore them from a copy" in str(refused.value)
    for word, point in (("status", ""), ("show", ":0"), ("report", ""), ("resume", "")):
        said = run(word, f"{study.record.path}{point}")
        assert said.exit_code == 5 and "not of this run" in said.output, said.output
    assert before == {path: path.read_bytes() for path in study.record.path.glob("trials/*/*.json")}


def without_digests(record: RunRecord) -> None:
    """As version 0.1.0 wrote results."""
    for path in record.path.glob("trials/*/result.json"):
        edit(path, lambda row: (row.pop("digest"), row.pop("made_of")))


@pytest.mark.parametrize(
    ("hand", "fault"),
    [
        (figure, "trial 2: map50_95 is 0.[34].* in study.db, 0.99 in result.json"),
        (ratio, "trial 2: ratio of neck is 0..* in study.db, 0.5 in candidate.json"),
        (swapped, "trial 1: map50_95 is"),
        (other_trials, "trial 0: ratio of stem is"),
    ],
)
def test_without_digests_values_are_compared_with_study_db(
    hand: Callable[[RunRecord, RunRecord], None], fault: str, make_study: MakeStudy
) -> None:
    study = make_study(**OPTIONS, **{"search.trials": TRIALS}).search()
    other = make_study(**OPTIONS, **{"search.trials": TRIALS, "search.seed": 1, "name": "other"}).search()
    for record in (study.record, other.record):
        without_digests(record)
    hand(study.record, other.record)
    assert len(study.trials()) == TRIALS
    with pytest.raises(RunCorrupt, match=f"study.db and trials/ differ: {fault}"):
        make_study(**OPTIONS, **{"search.trials": TRIALS + 2}).search()


def test_a_failure_is_compared_too(make_study: MakeStudy) -> None:
    evaluator = FailingEvaluator({1: "raise"})
    study = make_study(evaluator, **OPTIONS, **{"search.trials": 3}).search()
    record, candidate = study.record, study.trials()[1].candidate
    record.write_outcome(1, known_measurement(candidate), origin=record.origin().of(candidate))
    with pytest.raises(RunCorrupt, match=r"trial 1: error is .*failed on purpose in study.db, complete in result.json"):
        make_study(evaluator, **OPTIONS, **{"search.trials": 4}).search()


def test_a_finished_trial_that_study_db_was_not_told_of_must_be_its_own(make_study: MakeStudy) -> None:
    study = make_study(**OPTIONS, **{"search.trials": 3}).search()
    without_digests(study.record)
    with closing(sqlite3.connect(study.record.path / "study.db")) as connection:
        connection.execute("UPDATE trials SET state = 'RUNNING' WHERE number = 2")
        connection.commit()
    ratio(study.record, study.record)
    with pytest.raises(RunCorrupt, match="trial 2: ratio of neck"):
        make_study(**OPTIONS, **{"search.trials": 4}).search()


def test_what_was_measured_after_the_search_is_of_this_run_or_absent(make_study: MakeStudy) -> None:
    """Repeats, baselines and latencies of another run count as absent: they are measured again."""

    def searched(**more: Any) -> Study:
        keys = {"search.trials": 6, "search.confirm": 2, "baselines": ["uniform"], **more}
        return make_study(final=KnownFinalMeasurements(shift=0.9), **keys).search()

    study, other = searched(), searched(**{"search.seed": 1, "name": "other"})
    record = study.record
    assert read_final(record) and read_rows(record) and read_repeats(record, study.trials())
    for name in ("confirm", "baselines", "latency"):
        shutil.rmtree(record.path / name)
        shutil.copytree(other.record.path / name, record.path / name)
    assert read_final(record) == {} == read_repeats(record, study.trials()) and read_rows(record) == ()
    again = searched(**{"search.trials": 7})
    assert read_final(record) and read_rows(record) and read_repeats(record, again.trials())


def test_a_latency_that_was_changed_is_measured_again(make_study: MakeStudy) -> None:
    study = make_study(final=KnownFinalMeasurements(), **{"search.trials": 6, "baselines": []}).search()
    path = final_path(study.record)
    number = next(iter(read_final(study.record)))
    edit(path, lambda row: row["trials"][str(number)]["latency_ms"].update(Estimate.exact(0.1).to_dict()))
    assert read_final(study.record) == {}
    write_json(path, [])
    assert read_final(study.record) == {}
