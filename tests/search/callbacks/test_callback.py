"""What callbacks are told, in which order, and what becomes of one that raises."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from search import Callback, Study
from search.callbacks.callback import Callbacks
from search.errors import Interrupted, SearchFailing
from search.testing.known_front import FailingEvaluator, KnownFinalMeasurements, KnownFrontEvaluator
from search.trial import Trial
from tests.search.conftest import MakeStudy
from tests.search.hearing import after_trials, noting


class Recording(Callback):
    """Keeps (event, what it is about)."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def on_search_start(self, study: Study) -> None:
        assert study.base() is not None
        self.events.append(("search start", len(study.trials())))

    def on_trial_start(self, study: Study, trial: Trial) -> None:
        assert trial.state.value == "running" and trial.candidate.ratios and trial.source
        self.events.append(("start", trial.number))

    def on_trial_end(self, study: Study, trial: Trial) -> None:
        assert trial.number in {one.number for one in study.trials()} and study.state() == "running"
        self.events.append(("end", trial.number))

    def on_front_changed(self, study: Study, front: tuple[Trial, ...]) -> None:
        assert front == study.front()
        self.events.append(("front", {trial.number for trial in front}))

    def on_search_end(self, study: Study, error: BaseException | None) -> None:
        self.events.append(("search end", (study.state(), type(error).__name__)))


def test_each_event_is_told_in_its_order(make_study: MakeStudy) -> None:
    seen = Recording()
    study = make_study(**{"search.trials": 4}).search([seen])
    assert seen.events[0] == ("search start", 0) and seen.events[-1] == ("search end", ("finished", "NoneType"))
    trials = [(event, number) for event, number in seen.events if event in ("start", "end")]
    assert trials == [(event, number) for number in range(4) for event in ("start", "end")]
    fronts = [found for event, found in seen.events if event == "front"]
    assert fronts[-1] == {trial.number for trial in study.front()}
    assert all(before != after for before, after in itertools.pairwise(fronts))
    again = Recording()
    make_study(**{"search.trials": 5}).search([again])
    assert again.events[:3] == [("search start", 4), ("start", 4), ("end", 4)]


def test_the_front_of_the_final_measurement_is_told(make_study: MakeStudy) -> None:
    """Timed together, latencies have a tenth of the error, so more trials are told apart."""
    seen, final = Recording(), KnownFinalMeasurements(shift=0.5)
    study = make_study(final=final, **{"search.trials": 12, "baselines": []}).search([seen])
    fronts = [found for event, found in seen.events if event == "front"]
    assert fronts[-1] == {trial.number for trial in study.front()}


def test_copies_start_too(make_study: MakeStudy) -> None:
    seen = Recording()
    study = make_study(KnownFrontEvaluator(round_to=32), **{"search.trials": 20}).search([seen])
    assert any(trial.same_as is not None for trial in study.trials())
    begun = [number for event, number in seen.events if event == "start"]
    assert begun == [number for event, number in seen.events if event == "end"] == list(range(20))


class Faulty(Callback):
    """Raises at every trial; keeps how often it was called."""

    calls = 0

    def on_trial_end(self, study: Study, trial: Trial) -> None:
        self.calls += 1
        raise ValueError("a fault of the user's own")


def test_one_that_raises_is_named_once_and_dropped(make_study: MakeStudy) -> None:
    faulty, seen, notes = Faulty(), Recording(), list[str]()
    study = make_study(**{"search.trials": 4}).search([faulty, seen, noting(notes)])
    assert study.state() == "finished" and len(study.trials()) == 4 and faulty.calls == 1
    assert [event for event, _ in seen.events].count("end") == 4
    said = [note for note in notes if "Faulty" in note]
    assert len(said) == 1 and "ValueError: a fault of the user's own" in said[0]
    log = (study.record.path / "search.log").read_text()
    assert log.count("Faulty raised") == 1 and "in on_trial_end" in log, "with the traceback"


def test_one_that_fails_at_being_told_of_another_is_dropped_too(make_study: MakeStudy) -> None:
    class Deaf(Callback):
        def on_note(self, study: Study, text: str) -> None:
            raise OSError(text)

    told = Callbacks(make_study(), [Deaf(), Deaf(), Faulty()])
    told.note("something")
    told.tell(lambda one: one.on_trial_end(None, None))  # type: ignore[arg-type]
    told.note("something else")


def test_a_callback_can_stop_the_search(make_study: MakeStudy) -> None:
    study, seen = make_study(**{"search.trials": 9}), Recording()
    with pytest.raises(Interrupted):
        study.search([after_trials(lambda trial: trial.number == 2 and study.stop()), seen])
    assert [trial.number for trial in study.trials()] == [0, 1, 2]
    assert seen.events[-1] == ("search end", ("interrupted", "Interrupted"))


def test_why_a_search_gave_up_is_told(make_study: MakeStudy) -> None:
    seen = Recording()
    with pytest.raises(SearchFailing):
        make_study(FailingEvaluator(dict.fromkeys(range(9), "raise")), **{"search.trials": 9}).search([seen])
    assert seen.events[-1] == ("search end", ("interrupted", "SearchFailing"))


def test_nobody_is_asked_to_stop_where_nothing_runs(make_study: MakeStudy) -> None:
    study = make_study(**{"search.trials": 2}).search()
    study.stop()
    assert not study.record.stop_path.exists()
