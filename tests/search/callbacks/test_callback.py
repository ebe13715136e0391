"""What callbacks are told, in which order, and what becomes of one that raises."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from objectives.objective import Estimate
from search import Callback, Study
from search.callbacks.callback import Callbacks
from search.errors import Interrupted, SearchFailing
from search.run_folder.crash_points import arm
from search.testing.known_front import FailingEvaluator, KnownFinalMeasurements, KnownFrontEvaluator
from search.testing.simulated import Cut
from search.trial import Candidate, FinalLatency, Trial
from tests.search.conftest import MakeStudy
from tests.search.hearing import Hearing, after_trials, noting


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
    study.stop()
    assert not study.record.stop_path.exists(), "nothing runs that could be asked"


def test_a_trial_that_was_measured_but_not_told_is_reported_by_the_next_session(make_study: MakeStudy) -> None:
    def cut(point: str) -> None:
        if point == "recorded" and (record.trial_dir(2) / "result.json").exists():
            raise Cut(point)

    options = {"search.trials": 4, "search.sampler": "random"}
    study, first, second = make_study(**options), Recording(), Recording()
    record = study.record
    arm(cut)
    try:
        with pytest.raises(Cut):
            study.search([first])
    finally:
        arm(None)
    assert ("start", 2) in first.events and ("end", 2) not in first.events
    make_study(**options).search([second])
    assert second.events[:3] == [("search start", 3), ("start", 2), ("end", 2)]
    trials = [(event, number) for event, number in second.events if event in ("start", "end")]
    assert trials[2:] == [("start", 3), ("end", 3)]
    assert second.events[3][0] == "front" and 2 in second.events[3][1], "the front that was told was without it"


def test_who_interrupts_the_start_is_told_that_it_was_interrupted(make_study: MakeStudy) -> None:
    def interrupt(study: Study) -> None:
        raise KeyboardInterrupt

    make_study(**{"search.trials": 1}).search()
    seen = Recording()
    with pytest.raises((KeyboardInterrupt, Interrupted)):
        make_study(**{"search.trials": 2}).search([seen, Hearing(on_search_start=interrupt)])
    assert seen.events[-1] == ("search end", ("interrupted", "KeyboardInterrupt"))


class SlowerTogether(KnownFinalMeasurements):
    """Timed together, the last trial turns out to be slow."""

    def together(self, candidates: Mapping[int, Candidate], seed: int, work_dir: Path) -> dict[int, FinalLatency]:
        found = super().together(candidates, seed, work_dir)
        return {**found, max(found): FinalLatency(Estimate.exact(99.0), {"flags": []})}


def test_the_front_of_the_final_measurement_is_told(make_study: MakeStudy) -> None:
    seen, options = Recording(), {"objectives": ["map50_95", "latency_ms"], "baselines": [], "search.trials": 3}
    study = make_study(final=SlowerTogether(), **options).search([seen])
    front = {trial.number for trial in study.front()}
    assert front == {0, 1} and seen.events[-3:-1] == [("front", {0, 1, 2}), ("front", front)]


def test_copies_start_too(make_study: MakeStudy) -> None:
    seen = Recording()
    study = make_study(KnownFrontEvaluator(round_to=64), **{"search.trials": 3}).search([seen])
    assert [trial.same_as for trial in study.trials()] == [None, 0, 0], "one network, whatever the ratios"
    begun = [number for event, number in seen.events if event == "start"]
    assert begun == [number for event, number in seen.events if event == "end"] == [0, 1, 2]


class Faulty(Callback):
    """Raises at every trial; keeps how often it was called."""

    calls = 0

    def on_trial_end(self, study: Study, trial: Trial) -> None:
        self.calls += 1
        raise ValueError("a fault of the user's own at https://me:hun/ter2@example.org/x")


def test_one_that_raises_is_named_once_and_dropped(make_study: MakeStudy) -> None:
    faulty, seen, notes = Faulty(), Recording(), list[str]()
    study = make_study(**{"search.trials": 4}).search([faulty, seen, noting(notes)])
    assert study.state() == "finished" and len(study.trials()) == 4 and faulty.calls == 1
    assert [event for event, _ in seen.events].count("end") == 4
    said = [note for note in notes if "Faulty" in note]
    assert len(said) == 1 and "ValueError: a fault of the user's own" in said[0]
    log = (study.record.path / "search.log").read_text()
    assert log.count("Faulty raised") == 1 and "in on_trial_end" in log, "with the traceback"
    assert "ter2" not in log and "ter2" not in said[0], "whatever characters a password has"


def test_one_that_fails_at_being_told_of_another_is_dropped_too(make_study: MakeStudy) -> None:
    class Deaf(Callback):
        calls = 0

        def on_note(self, study: Study, text: str) -> None:
            self.calls += 1
            raise OSError(text)

    deaf = Deaf(), Deaf()
    told = Callbacks(make_study(), [*deaf, Faulty()])
    told.note("something")
    assert [one.calls for one in deaf] == [1, 1], "the second was dropped when it was told of the first"
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
