"""Final steps of a search: the front timed again together, the baselines, the picks with more seeds.

    latency    one interleaved measurement of the front and of trials that may still reach it   latency/final.json
    rows       the baselines (`evaluate.baselines`)                                            baselines/
    seeds      the picks, trained again with other seeds (`search.confirm`)                    confirm/

In this order, since baselines and picks use the final latencies. Every task is a job of the study's engine, so it has
its own process, time limit and typed failure; a task with a result is not repeated. A failed task adds a note and
leaves the search's results unchanged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from objectives.errors import ObjectiveError
from objectives.objective import Objective
from objectives.runtimes.names import is_command
from search.config.spec import StudySpec
from search.errors import Interrupted
from search.evaluate.baselines import Baseline, baseline_rows
from search.evaluate.evaluator import recorded
from search.orchestration.loop import trial_seed
from search.prepare.prepared import FinalMeasurements, Prepared
from search.results import ranking
from search.results.baseline_results import missing, start_row
from search.results.remeasured import read_final, read_repeat, repeat_dir, write_final
from search.results.results import Results
from search.run_folder.quarantine import set_aside
from search.run_folder.record import acknowledged, write_outcome
from search.run_folder.weights import FILE as WEIGHTS
from search.run_folder.weights import discard_weights
from search.trial import Candidate, Failure, FinalLatency, Measurement, Origin, Outcome, Trial, TrialState
from search.workers.engine import Engine, Job

MOST_TIMED = 40
"""Trials that are timed together at most, the front first."""
LEAST_TRAINING_S = 60.0
"""Seconds for which a network is trained at least, where the trials took less."""
_ROUNDS = 3
"""A better figure may bring others onto the front, or make another trial the pick: so often it is looked again."""
_SPAWN_S = 5.0
"""A process that reads the model and the data."""
_POLL_S = 0.2
_log = logging.getLogger("search")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Task(Generic[_T]):
    """One piece of work.

    Attributes:
        work: as `Job.work`; `folder`: its own.
        origin: what its result is made of.
        more_s: seconds that it may take beyond the time-out of a trial.
        silent_s: seconds without a heartbeat that it may take at least, however few the study allows.
    """

    title: str
    work: Callable[[Path], _T]
    folder: Path
    origin: Origin | None = None
    more_s: float = 0.0
    silent_s: float = 0.0


@dataclass(frozen=True)
class FinalSteps:
    """The steps after the last trial of one study.

    Args:
        read: the results as they lie on disk now; each step changes them.
        note: told a sentence about the run; `activity`: several times a second what is being measured.
        engine: makes an engine of the study.
        check: raises when somebody asked to stop; called several times a second.
        timeout_s: seconds after which a trial is given up, hence a piece of work too; `stuck_s`: without a heartbeat.
    """

    read: Callable[[], Results]
    prepared: Prepared
    note: Callable[[str], None]
    activity: Callable[[str], None]
    engine: Callable[[Prepared], Engine[Any]]
    check: Callable[[], None]
    timeout_s: float
    stuck_s: float

    def run(self) -> None:
        """Run all steps. Raises what `check` raises; a failed step is logged, noted, and skipped."""
        for step in (self.time_together, self.measure_rows, self.repeat_picks):
            try:
                step()
            except Interrupted:
                raise
            except Exception as error:  # whatever it was, the search itself is complete
                _log.exception("a step after the search failed")
                self._note(f"a step after the search failed: {type(error).__name__}: {error}")

    def time_together(self) -> None:
        """Time the front and its neighbours; then those that the better figures moved onto it."""
        done: set[int] = set()
        for turn in range(_ROUNDS):
            results = self.read()
            near = _to_time(results) if turn == 0 else _front(results)
            trials = [trial for trial in near if trial.number not in done]
            if self.prepared.final is None or not trials or _is_timed(results, done):
                return
            done |= {trial.number for trial in trials}
            task = _timing(self.prepared.final, results, trials, turn)
            for _, outcome in self._done([task]):
                if isinstance(outcome, Failure):
                    self._note(f"the front could not be timed together: {outcome.message}")
                    return
                changed = write_final(results.record, trials, outcome)
                _log.info("timed together: %d trials, %d figures replaced", len(trials), changed)

    def measure_rows(self, named: Sequence[str] | None = None) -> None:
        """Measure the baselines that have no result; named ones are tried again if they failed."""
        if self.prepared.final is None:
            return
        results = self.read()
        asked = results.spec.baseline_rows if named is None else named
        known, tasks, origin = self._networks(results), list[Task[Measurement]](), results.record.origin()
        for row in _rows_left(results, self.prepared, asked, again=named is not None):
            folder = start_row(results.record, row)
            same = None if row.candidate is None else known.get(self._key(row.candidate))
            if same is not None and same.measurement is not None:
                write_outcome(folder, same.measurement, same.number, origin)
                continue
            if row.kind == "train":
                row = replace(row, seconds=max(results.progress()["seconds"], LEAST_TRAINING_S))
            measure = partial(self.prepared.final.baseline, row, results.spec.search.seed)
            more_s = 2 * (row.seconds or 0.0)  # the epoch that is running then, and validations
            tasks.append(Task(row.name, partial(recorded, measure, origin=origin), folder, origin, more_s=more_s))
        self._measure(results, tasks)

    def _networks(self, results: Results) -> dict[str, Trial]:
        """Return the measured networks: a baseline equal to a trial's network is not trained again."""
        measured = [trial for trial in results.trials if trial.state == TrialState.COMPLETE]
        return {self._key(trial.candidate): trial for trial in measured if trial.same_as is None}

    def _key(self, candidate: Candidate) -> str:
        return self.prepared.evaluator.pruned(candidate).key

    def repeat_picks(self) -> None:
        """Train the picks with more seeds, until every pick has been repeated."""
        for _ in range(_ROUNDS):
            results = self.read()
            tasks = [task for trial in _picks(results) for task in self._repeats(results, trial)]
            if not tasks:
                return
            self._measure(results, tasks)

    def _repeats(self, results: Results, trial: Trial) -> Iterator[Task[Measurement]]:
        spec = results.spec.search
        for number in range(1, spec.confirm):
            folder = repeat_dir(results.record, trial.number, number)
            candidate = trial.candidate.from_base()
            origin = results.record.origin().of(candidate)
            if read_repeat(folder, origin) is None:
                if (folder / "result.json").exists():
                    set_aside(folder / "result.json")
                seed = trial_seed(trial_seed(spec.seed, trial.number), number)
                measure = partial(self.prepared.evaluator.evaluate, candidate, trial.number, seed)
                title = f"trial {trial.number} with seed {number + 1} of {spec.confirm}"
                yield Task(title, partial(recorded, measure, origin=origin), folder, origin)

    def _measure(self, results: Results, tasks: Sequence[Task[Measurement]]) -> None:
        """Do the work; each outcome is in its folder's result.json before it is a note.

        A result that a worker has saved counts, however the worker ended.
        """
        try:
            for task, ended in self._done(tasks):
                discard_weights(task.folder / WEIGHTS)  # nothing here is delivered
                outcome: Outcome = ended
                if isinstance(outcome, Failure):
                    outcome = acknowledged(task.folder) or outcome
                if isinstance(outcome, Failure):
                    write_outcome(task.folder, outcome, origin=task.origin)
                self._note(f"{task.title}: {_figures(results, outcome)}")
        finally:
            for task in tasks:  # also of those that were interrupted
                discard_weights(task.folder / WEIGHTS)

    def _done(self, tasks: Sequence[Task[_T]]) -> Iterator[tuple[Task[_T], _T | Failure]]:
        """Do the work, as many pieces at once as the study has workers."""
        if not tasks:
            return
        engine: Engine[_T] = self.engine(self.prepared)
        waiting, running = list(range(len(tasks)))[::-1], set[int]()
        try:
            while waiting or running:
                self.check()
                while waiting and len(running) < engine.workers:
                    running.add(number := waiting.pop())
                    task = tasks[number]
                    task.folder.mkdir(parents=True, exist_ok=True)
                    timeout_s, stuck_s = self.timeout_s + task.more_s, max(self.stuck_s, task.silent_s)
                    engine.submit(Job(number, task.work, task.folder, timeout_s, stuck_s))
                self.activity("; ".join(tasks[number].title for number in sorted(running)))
                for finished in engine.poll(_POLL_S):
                    running.discard(finished.number)
                    yield tasks[finished.number], finished.outcome
        finally:
            engine.cancel()

    def _note(self, text: str) -> None:
        _log.info("%s", text)
        self.note(text)


def seconds_of(results: Results, prepared: Prepared, usual_s: float) -> float:
    """Estimate the seconds of the steps after `results`, which a search must reserve.

    Args:
        usual_s: seconds that a trial takes.
    """
    spec, base = results.spec, prepared.base
    cheap_s = sum(base.seconds.get(phase, 0.0) for phase in ("export", "latency", "accuracy")) + _SPAWN_S
    rows = _rows_left(results, prepared, spec.baseline_rows, again=False) if prepared.final is not None else []
    found = sum(usual_s if row.is_trained else cheap_s for row in rows) / spec.search.workers
    timed = _to_time(results) if prepared.final is not None else []
    found += len(timed) * 2 * spec.latency.seconds * _timings(spec)
    repeats = (spec.search.confirm - 1) * max(len(spec.budgets), 1)
    return found + repeats * usual_s / spec.search.workers


def _rows_left(results: Results, prepared: Prepared, named: Sequence[str], *, again: bool) -> list[Baseline]:
    spec = results.spec
    rows = baseline_rows(named, prepared.searched, spec.imgsz, spec.search.seed, spec.base_names)
    return missing(results.record, rows, failed_too=again)


def _timing(
    final: FinalMeasurements, results: Results, trials: Sequence[Trial], turn: int
) -> Task[dict[int, FinalLatency]]:
    """Return the joint timing: a trial's time-out is for exports and openings, and twice its own limit for timing.

    A program that times elsewhere gives no heartbeat within a round, which is two calls for each trial.
    """
    candidates, spec = {trial.number: trial.candidate for trial in trials}, results.spec.latency
    work = partial(final.together, candidates, results.spec.search.seed + turn)
    folder = results.record.path / "latency" / "together"
    title = f"timing {len(trials)} trials of the front together"
    more_s = 2 * spec.together_s * len(trials) * _timings(results.spec)
    silent_s = 2 * spec.timeout_s * len(trials) if is_command(spec.runtime) else 0.0
    return Task(title, work, folder, more_s=more_s, silent_s=silent_s)


def _timings(spec: StudySpec) -> int:
    """Return how often each trial is timed: its network alone, and end to end if the study names that."""
    return 2 if "e2e_ms" in spec.deployed and not is_command(spec.latency.runtime) else 1


def _is_timed(results: Results, done: set[int]) -> bool:
    """Return whether the whole front was timed together, now or in an earlier session."""
    return {trial.number for trial in _front(results)} <= read_final(results.record).keys() | done


def _front(results: Results) -> list[Trial]:
    """Trials on it; an export of one, in another precision, has a latency of its own and keeps it."""
    return [trial for trial in results.front if not trial.exported]


def _to_time(results: Results) -> list[Trial]:
    """Return the front and the trials that may still reach it; none if latency is no objective."""
    spec, ranked = results.spec, results.ranked
    limited = (name for limits in spec.budgets.values() for name in limits)
    if not {"latency_ms", "e2e_ms"} & {*spec.objectives, *spec.constraints, *limited}:
        return []
    near = [point for point in ranked.undominated if point not in ranked.on_front]
    by_id = {trial.id: trial for trial in ranked.trials if not trial.exported}
    return [by_id[point] for point in (*ranked.front, *near) if point in by_id][:MOST_TIMED]


def _picks(results: Results) -> list[Trial]:
    """Return the pick of every budget, or the knee if there are no budgets; without exports."""
    ranked = results.searched
    if not ranked.trials:
        return []
    if not results.limits:
        return [_knee(ranked, results.objectives)]
    picked = {row["trial"] for row in ranking.picks(ranked, results.limits, results.objectives).values()}
    return [trial for trial in ranked.trials if str(trial.id) in picked]


def _knee(ranked: ranking.Ranked, objectives: Sequence[Objective]) -> Trial:
    """Return the knee, or the best if there is nothing to trade."""
    try:
        return ranking.knee(ranked, objectives)[0]
    except ObjectiveError:
        return ranking.pick(ranked, (), objectives)[0]


def _figures(results: Results, outcome: Outcome) -> str:
    if isinstance(outcome, Failure):
        return f"not measured: {outcome.message}"
    known = [o for o in results.objectives if o.name in outcome.figures]
    return ", ".join(o.text(outcome.figures[o.name].value) for o in known)
