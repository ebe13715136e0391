"""The search as a whole: limits, failures, equal networks, and resuming after a cut anywhere."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from search.errors import Interrupted, NotComparable, RunCorrupt, SearchFailing
from search.evaluate.evaluator import PrunedCandidate
from search.orchestration.loop import Loop
from search.propose import optuna_proposer
from search.propose.optuna_proposer import OptunaProposer
from search.propose.proposer import Proposal
from search.run_folder.record import RunRecord
from search.study import Parts, Study
from search.testing.known_front import BLOCKS, FailingEvaluator, KnownFront, KnownFrontEvaluator
from search.testing.simulated import Cut, InlineEngine
from search.trial import Candidate, Promotion, Trial, TrialState
from tests.search.conftest import MakeStudy
from tests.search.hearing import after_trials

# Sampler, trials until its model is in use, cuts before and after that.
SAMPLERS = [("auto", 18, (16,)), ("tpe", 8, (6,)), ("nsga2", 9, (7,)), ("random", 4, (2,)), ("qmc", 4, (2,))]


@pytest.fixture
def _models_begin_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """TPE after 5 trials instead of 10, NSGA-II with a population of 6 instead of 20: the same steps, fewer of them."""
    monkeypatch.setattr(optuna_proposer, "_MIN_STARTUP", 5)
    monkeypatch.setattr(optuna_proposer, "_NSGA2_POPULATION", 6)


def _sequence(study: Study) -> list[tuple[int, Candidate, str]]:
    return [(trial.number, trial.candidate, trial.source) for trial in study.trials()]


def _cut(study: Study) -> None:
    with pytest.raises(Cut):
        study.search()


def test_a_search_ends_with_its_trials_and_finds_the_front(make_study: MakeStudy) -> None:
    study = make_study(**{"search.trials": 25}).search()
    assert [trial.number for trial in study.trials()] == list(range(25))
    assert study.state() == "finished"
    assert len(study.front()) >= 6
    best = study.pick(latency_ms=6)
    assert best.trial is not None and best.trial.measurement is not None
    assert best.trial.measurement.figures["latency_ms"].value <= 6


def test_a_search_ends_with_its_hours(make_study: MakeStudy) -> None:
    study = make_study(**{"search.trials": 500, "search.hours": 0.25}).search()
    assert len(study.trials()) == 15  # a minute each, by the simulated clock
    assert study.state() == "finished"
    assert len(make_study(**{"search.trials": 500, "search.hours": 0.3}).search().trials()) == 18


@pytest.mark.usefixtures("_models_begin_early")
@pytest.mark.parametrize(("sampler", "trials", "cuts"), SAMPLERS)
def test_a_cut_at_any_trial_repeats_the_sequence(
    make_study: MakeStudy, workplace: Path, sampler: str, trials: int, cuts: tuple[int, ...]
) -> None:
    options = {"search.trials": trials, "search.sampler": sampler}
    whole = _sequence(make_study(**options).search())
    for cut_at in cuts:
        shutil.rmtree(workplace / "runs")
        _cut(make_study(cut_at=cut_at, **options))
        resumed = make_study(**options).search()
        assert _sequence(resumed) == whole


def test_depth_is_searched_recorded_and_resumed(make_study: MakeStudy, workplace: Path) -> None:
    options = {"search.trials": 20, "space.depth": True}
    study = make_study(**options).search()
    whole = _sequence(study)
    assert [candidate.removed for _, candidate, _ in whole[11:14]] == [BLOCKS[:1], BLOCKS[1:], BLOCKS]
    assert {source for _, _, source in whole} == {"opening", "tpe"}
    rows = study.snapshot()["trials"]
    assert [tuple(row["removed"]) for row in rows] == [candidate.removed for _, candidate, _ in whole]
    table = list(csv.DictReader((study.record.path / "results.csv").read_text().splitlines()))
    assert table[13]["removed"] == " ".join(BLOCKS) and table[0]["removed"] == ""
    shutil.rmtree(workplace / "runs")
    _cut(make_study(cut_at=19, **options))
    assert _sequence(make_study(**options).search()) == whole
    with pytest.raises(NotComparable, match=r"space.depth: True in the run, False now"):
        make_study(**{"search.trials": 20}).search()


def test_a_search_with_a_gaussian_process_is_resumed(make_study: MakeStudy, workplace: Path) -> None:
    options = {"search.trials": 12, "search.sampler": "gp", "space.depth": True}
    whole = _sequence(make_study(**options).search())
    shutil.rmtree(workplace / "runs")
    _cut(make_study(cut_at=11, **options))
    assert _sequence(make_study(**options).search()) == whole


def test_a_run_from_before_a_key_existed_goes_on(make_study: MakeStudy) -> None:
    study = make_study(**{"search.trials": 2}).search()
    resolved, prints = study.record.read_args()
    del resolved["recover"]["slimming"]
    study.record.write_args(resolved, prints)
    assert len(make_study(**{"search.trials": 3}).search().trials()) == 3


def test_a_run_of_equal_epochs_is_not_gone_on_with_by_need(make_study: MakeStudy) -> None:
    study = make_study(**{"search.trials": 2, "recover.spend": "equal"}).search()
    resolved, prints = study.record.read_args()
    del resolved["recover"]["spend"]  # as an older version wrote it
    study.record.write_args(resolved, prints)
    with pytest.raises(NotComparable, match=r"recover.spend: equal in the run, need now"):
        make_study(**{"search.trials": 3}).search()
    parts = Parts(prepare=KnownFront(), engine=lambda spec, prepared: InlineEngine())
    again = Study.load(study.record.path, parts=parts, **{"search.trials": 3})
    assert len(again.search().trials()) == 3 and again.spec.recover.spend == "equal"


def test_many_cuts_in_one_run_repeat_the_sequence(make_study: MakeStudy, workplace: Path) -> None:
    whole = _sequence(make_study(**{"search.trials": 20}).search())
    shutil.rmtree(workplace / "runs")
    for cut_at in (1, 2, 7, 16, 19):
        _cut(make_study(cut_at=cut_at, **{"search.trials": 20}))
    assert _sequence(make_study(**{"search.trials": 20}).search()) == whole


@pytest.mark.parametrize("moment", ["start", "record", "tell"])
def test_a_cut_between_two_writes_loses_nothing(
    make_study: MakeStudy, workplace: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    options = {"search.trials": 6}
    whole = _sequence(make_study(**options).search())
    for cut_at in (0, 4):
        shutil.rmtree(workplace / "runs")
        with monkeypatch.context() as patch:
            _cut_before(patch, moment, cut_at)
            _cut(make_study(**options))
        assert _sequence(make_study(**options).search()) == whole


def _cut_before(patch: pytest.MonkeyPatch, moment: str, number: int) -> None:
    """Cut the power at one of the writes of trial `number`."""
    owner, name = {
        "start": (RunRecord, "start_trial"),
        "record": (Loop, "_take"),
        "tell": (OptunaProposer, "tell"),
    }[moment]
    original = getattr(owner, name)

    def cutting(self: object, first: object, *rest: object, **named: object) -> object:
        if getattr(first, "number", first) == number:
            raise Cut(moment)
        return original(self, first, *rest, **named)

    patch.setattr(owner, name, cutting)


def _cut_after_parameters(patch: pytest.MonkeyPatch, number: int, count: int) -> None:
    from optuna.trial import Trial as OptunaTrial

    original = OptunaTrial._suggest
    seen: list[str] = []

    def cutting(self: OptunaTrial, name: str, distribution: object) -> object:
        if self.number == number:
            if len(seen) == count:
                raise Cut("ask")
            seen.append(name)
        return original(self, name, distribution)  # type: ignore[arg-type]

    patch.setattr(OptunaTrial, "_suggest", cutting)


@pytest.mark.usefixtures("_models_begin_early")
@pytest.mark.parametrize(("sampler", "trials", "cuts"), SAMPLERS[1:])
def test_a_cut_in_the_middle_of_an_ask_draws_the_same_numbers(
    make_study: MakeStudy,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    sampler: str,
    trials: int,
    cuts: tuple[int, ...],
) -> None:
    options = {"search.trials": trials, "search.sampler": sampler}
    whole = _sequence(make_study(**options).search())
    for cut_at, parameters in ((2, 1), (cuts[0], 2)) if sampler == "tpe" else ((cuts[0], 2),):
        shutil.rmtree(workplace / "runs")
        with monkeypatch.context() as patch:
            _cut_after_parameters(patch, cut_at, parameters)
            _cut(make_study(**options))
        assert _sequence(make_study(**options).search()) == whole


def test_a_failed_trial_is_recorded_and_the_search_goes_on(make_study: MakeStudy) -> None:
    study = make_study(FailingEvaluator({2: "nan", 5: "raise"}), **{"search.trials": 12}).search()
    failed = [trial for trial in study.trials() if trial.state == TrialState.FAILED]
    assert [trial.number for trial in failed] == [2, 5]
    assert failed[0].error is not None and failed[0].error.startswith("not_finite: ")
    assert (study.record.trial_dir(5) / "error.txt").read_text().strip()
    assert len(study.trials()) == 12


def test_a_search_in_which_everything_fails_ends_early(make_study: MakeStudy) -> None:
    study = make_study(FailingEvaluator({number: "raise" for number in range(50)}), **{"search.trials": 50})
    with pytest.raises(SearchFailing, match="the first 5 trials all failed"):
        study.search()


@pytest.mark.parametrize(("trials", "said"), [(1, "the only trial failed"), (3, "all 3 trials failed")])
def test_a_search_whose_few_trials_all_failed_is_not_done(trials: int, said: str, make_study: MakeStudy) -> None:
    """Fewer than the five that end a search early; the limit of trials ends it."""
    evaluator = FailingEvaluator(dict.fromkeys(range(trials), "raise"))
    study = make_study(evaluator, **{"search.trials": trials})
    with pytest.raises(SearchFailing, match=f"{said}; the first: error: RuntimeError: failed on purpose") as failed:
        study.search()
    assert failed.value.exit_code != 0 and "trials/0000/error.txt" in str(failed.value)
    assert f"resume {study.record.path} search.trials={trials + 5} continues" in str(failed.value)
    with pytest.raises(SearchFailing, match=said):
        make_study(evaluator, **{"search.trials": trials}).search()
    again = make_study(evaluator, **{"search.trials": trials + 2}).search()
    assert [trial.state for trial in again.trials()[trials:]] == [TrialState.COMPLETE] * 2
    assert study.state() == "interrupted" and again.state() == "finished"


def test_equal_networks_are_measured_once(make_study: MakeStudy) -> None:
    evaluator = _Counting(round_to=32)
    study = make_study(evaluator, **{"search.trials": 30}).search()
    copies = [trial for trial in study.trials() if trial.same_as is not None]
    assert len(copies) + len(_Counting.numbers) == 30 and len(copies) > 10
    by_number = {trial.number: trial for trial in study.trials()}
    for copy in copies:
        assert copy.same_as is not None and copy.same_as < copy.number
        assert copy.measurement == by_number[copy.same_as].measurement
        assert copy.seconds_total == 0


class _Counting(KnownFrontEvaluator):
    numbers: list[int] = []  # noqa: RUF012

    def evaluate(self, candidate: Candidate, number: int, seed: int, work_dir: Path, screening: object = None):  # type: ignore[no-untyped-def]
        self.numbers.append(number)
        return super().evaluate(candidate, number, seed, work_dir)

    def pruned(self, candidate: Candidate) -> PrunedCandidate:
        return super().pruned(candidate)


def test_copies_survive_a_resume(make_study: MakeStudy, workplace: Path) -> None:
    evaluator, options = KnownFrontEvaluator(round_to=32), {"search.trials": 20}
    whole = make_study(evaluator, **options).search().trials()
    shutil.rmtree(workplace / "runs")
    _cut(make_study(evaluator, cut_at=whole[-1].number if whole[-1].same_as is None else 0, **options))
    assert make_study(evaluator, **options).search().trials() == whole


def test_an_interrupt_drops_what_runs_and_says_how_to_go_on(make_study: MakeStudy) -> None:
    study = make_study(**{"search.trials": 10})

    def stop_at_three(trial: Trial) -> None:
        if trial.number == 3:
            study.record.request_stop()

    with pytest.raises(Interrupted, match="paretoprune resume") as caught:
        study.search([after_trials(stop_at_three)])
    assert caught.value.exit_code == 130
    assert study.state() == "interrupted"
    assert [trial.number for trial in make_study(**{"search.trials": 10}).search().trials()] == list(range(10))


def test_what_makes_trials_comparable_may_not_change(make_study: MakeStudy, workplace: Path) -> None:
    make_study(**{"search.trials": 3}).search()
    with pytest.raises(NotComparable) as caught:
        make_study(**{"search.trials": 3, "imgsz": 320, "recover.lr0": 0.1}).search()
    assert "imgsz: 640 in the run, 320 now" in str(caught.value)
    assert "recover.lr0: nothing in the run, 0.1 now" in str(caught.value)
    (workplace / "best.pt").write_bytes(b"other weights")
    with pytest.raises(NotComparable, match="model: content"):
        make_study(**{"search.trials": 3}).search()


def test_trials_workers_and_budgets_may_change(make_study: MakeStudy) -> None:
    make_study(**{"search.trials": 3}).search()
    study = make_study(**{"search.trials": 5, "search.workers": 2, "budgets": {"edge": {"latency_ms": 5}}})
    assert len(study.search().trials()) == 5
    assert study.snapshot()["picks"]["edge"]["sentence"]


def test_missing_results_are_corruption(make_study: MakeStudy) -> None:
    study = make_study(**{"search.trials": 4}).search()
    shutil.rmtree(study.record.trial_dir(2))
    with pytest.raises(RunCorrupt, match=r"trials \[2\] are in study.db but have no result.json"):
        make_study(**{"search.trials": 6}).search()


def test_a_torn_result_is_corruption_that_names_the_file(make_study: MakeStudy) -> None:
    study = make_study(**{"search.trials": 2}).search()
    (study.record.trial_dir(1) / "result.json").write_text('{"format": 1, ')
    with pytest.raises(RunCorrupt, match="0001"):
        study.trials()


def test_constraints_keep_trials_off_the_front(make_study: MakeStudy) -> None:
    study = make_study(**{"search.trials": 30, "constraints": {"latency_ms": 6}}).search()
    for trial in study.front():
        assert trial.measurement is not None and trial.measurement.figures["latency_ms"].value <= 6
    rows = study.snapshot()["trials"]
    assert {row["feasible"] for row in rows} == {True, False}


def test_the_snapshot_has_the_agreed_schema(make_study: MakeStudy) -> None:
    study = make_study(**{"search.trials": 6, "budgets": {"edge": {"latency_ms": 0.1}}}).search()
    content = json.loads(study.record.snapshot_path.read_text())
    assert content.keys() >= {
        *("format", "name", "state", "created", "updated", "version", "environment", "study", "objectives"),
        *("constraints", "budgets", "progress", "base", "groups", "trials", "front", "hypervolume", "picks", "verdict"),
    }
    assert content["progress"].keys() == {"done", "failed", "running", "total", "seconds", "eta_s"}
    assert content["picks"]["edge"]["trial"] is None
    assert [row["trial"] for row in content["hypervolume"]] == list(range(6))
    volumes = [row["value"] for row in content["hypervolume"]]
    assert volumes == sorted(volumes)
    assert (study.record.path / "pareto.csv").read_text().count("\n") == len(content["front"]) + 1
    assert (study.record.path / "results.csv").read_text().count("\n") == 7


def test_weights_off_the_front_are_deleted(make_study: MakeStudy) -> None:
    study = make_study(_Saving(), **{"search.trials": 15}).search()
    kept = {int(path.parent.name) for path in study.record.path.glob("trials/*/weights.pt")}
    assert kept == {point.trial for point in study.results().ranked.undominated}
    assert {trial.number for trial in study.front()} <= kept and 0 < len(kept) < 15


class _Saving(KnownFrontEvaluator):
    def evaluate(self, candidate: Candidate, number: int, seed: int, work_dir: Path, screening: object = None):  # type: ignore[no-untyped-def]
        (work_dir / "weights.pt").write_bytes(b"weights")
        return super().evaluate(candidate, number, seed, work_dir)


def test_trials_that_open_ones_continue_are_named(tmp_path: Path) -> None:
    nothing: Any = None
    loop = Loop(nothing, nothing, nothing, RunRecord(tmp_path), nothing, nothing)
    own = Candidate({"stem": 0.5})
    open_ones = [own, own.promoted(Promotion(3, 1, 1)), own.promoted(Promotion(None, 1, 1))]
    for number, candidate in enumerate(open_ones, 10):
        loop._proposals[number] = Proposal(number, candidate, "promoted")
    assert loop.continued == {3}
    loop._again.append(Proposal(20, own.promoted(Promotion(5, 2, 2)), "promoted"))
    assert loop.continued == {3, 5}
