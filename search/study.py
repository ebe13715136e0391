"""Public API: load a study, run the search, read the Pareto front, pick and export a trial."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from objectives.choice import Bound
from objectives.objective import Objective, objectives_named
from search.callbacks.callback import Callback, Callbacks
from search.callbacks.trackers import check_trackers, followers_of
from search.config.comparability import check_comparable, comparable, fingerprint, of_one_kind
from search.config.inputs.loaded_model import FOLDER, checkpoint_of, is_loaded
from search.config.inputs.paths import absolute, exists
from search.config.inputs.user_code import UserReference
from search.config.inputs.user_modules import use
from search.config.spec import StudySpec, load_spec, with_defaults
from search.config.yaml_source import read
from search.deliver.picked_trial import PickedTrial
from search.deliver.selection import Selection
from search.errors import ConfigError, Interrupted, RunCorrupt
from search.orchestration.final_steps import FinalSteps
from search.orchestration.loop import Loop
from search.orchestration.policy import StudyPolicy
from search.orchestration.session import StartCleanup, interrupting, log, logging_to, resumable, surviving_hangup
from search.orchestration.stopping import Limits, next_time, trial_timeout_s
from search.orchestration.weight_retention import discard
from search.prepare.prepare import Preparation, prepare_pruning
from search.prepare.prepared import Prepared
from search.prepare.requirements import check_cluster, check_packages, claimed
from search.prepare.trusted_checkpoint import clean_copy, with_clean_copy
from search.propose.proposer import History
from search.results.ranking import VolumeTrack
from search.results.results import Results
from search.results.schema import ProgressRow, Snapshot
from search.results.snapshot import current_snapshot, refresh, snapshot, state_on_disk, write_snapshot
from search.run_folder import environment
from search.run_folder.artefact_files import digest as file_digest
from search.run_folder.artefact_files import files_of
from search.run_folder.atomic import write_json
from search.run_folder.crash_points import reached
from search.run_folder.disk import DiskSpace, disk_errors, model_bytes
from search.run_folder.record import STUDY, RunRecord
from search.run_folder.storage_errors import check_length
from search.run_folder.weights import discard_undelivered
from search.trial import Measurement, PointId, Trial, json_digest
from search.workers.clock import Clock, SystemClock
from search.workers.engine import Engine
from ultralytics_versions.tested import installed, without_teacher

EngineMaker = Callable[[StudySpec, Prepared], Engine[Any]]
"""An engine takes jobs of any kind: trials, and what comes after the last one."""
_OLDER_FINGERPRINT = (
    "this run began with names and sizes of images only: whether their contents changed since is not known; "
    "from here on contents count"
)
_SECTIONS = ("search", "space", "recover", "latency", "keep", "notify")


@dataclass(frozen=True)
class Parts:
    """Components of a study; tests replace them."""

    prepare: Preparation = prepare_pruning
    engine: EngineMaker | None = None
    clock: Clock = field(default_factory=SystemClock)


class Study:
    """One study and its run folder, `project/name`.

    Args:
        study: a study.yaml; None when `model` and `data` are given as overrides.
        parts: components of the study; tests replace them.
        overrides: `imgsz=320`, `search={"trials": 5}` or `**{"search.trials": 5}`; they take precedence over the file.
            `model` may be a YOLO object (`search.config.inputs.loaded_model`).

    Raises:
        ConfigError: every fault of the study at once.
    """

    def __init__(self, study: str | Path | None = None, *, parts: Parts | None = None, **overrides: Any) -> None:
        path = None if study is None else Path(study)
        self._setup(with_clean_copy(load_spec(path, _dotted(_named(overrides, path)))), parts)

    @classmethod
    def load(
        cls, run: str | Path, *, parts: Parts | None = None, mix_versions: bool = False, **overrides: Any
    ) -> Study:
        """The study of a run folder; its model and data are needed again only to search on.

        Args:
            mix_versions: search on even if the run was measured with other versions of this package, PyTorch and so on.

        Raises:
            ConfigError: no run there.
        """
        record = RunRecord.existing(Path(run))
        study = cls.__new__(cls)
        study._setup(load_spec(record.args_path, _dotted(overrides), check_paths=False), parts)
        study.record = record
        study._mix_versions = mix_versions
        return study

    def _setup(self, spec: StudySpec, parts: Parts | None) -> None:
        self.spec = spec
        self.record = RunRecord(Path(spec.project) / spec.run_name)
        self._volumes = VolumeTrack()
        self._results: Results | None = None
        self._parts = parts or Parts()
        self._loop: Loop | None = None
        self._ended = ""
        self._until: datetime | None = None
        self._keep_claim: Callable[[], None] = lambda: None
        self._mix_versions = False

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Objectives, in the order of the study."""
        return objectives_named(self.spec.objectives)

    def search(self, callbacks: Sequence[Callback] = ()) -> Study:
        """Search until a limit is reached (`stopping`), then run the `final_steps`; resumes an existing run. Returns
        itself.

        Args:
            callbacks: told what happens, after the trackers that the study names (`track`).

        Raises:
            RunLocked: another process searches this run.
            NotComparable: the run was made by a different study.
            BackendMissing, ServerMissing: a package, the storage or the cluster is missing.
            Interrupted: Ctrl-C, SIGTERM or a stop request, also during the preparation; the run can be resumed.
        """
        check_trackers(self.spec)
        told = Callbacks(self, [*followers_of(self.spec, self.record.path), *callbacks])
        with resumable(self.record), self._prepared(told) as prepared:
            self._run(prepared, told)
        return self

    def stop(self) -> None:
        """Ask the search of this run to end, in whatever process; it can be resumed. Nothing where none runs."""
        if self.record.lock.is_held():
            self.record.request_stop()

    def prepare(self, callbacks: Sequence[Callback] = ()) -> Prepared:
        """Measure the base, sensitivity and latency model without searching; a later search reuses them.

        Args:
            callbacks: told notes and activities.

        Raises as `search`.
        """
        with resumable(self.record), self._prepared(Callbacks(self, callbacks)) as prepared:
            return prepared

    @contextmanager
    def _prepared(self, told: Callbacks) -> Iterator[Prepared]:
        """Own the run and prepare the search."""
        until = self.spec.search.until
        self._until = None if until is None else next_time(until, self._parts.clock.local())
        if self.spec.storage is None:
            check_length(self.record.study_db)
        self._check_inputs()
        cleanup = StartCleanup(self.record)
        with self._session(), ExitStack() as held:
            try:
                here = self._claim(told)
                reached("claimed")
                self._keep_claim = held.enter_context(claimed(self.spec))
                if self._parts.engine is None:
                    check_cluster(self.spec)
                prepared = self._prepare(told, "resume")
                self.record.write_environment(here)
                reached("prepared")
            except BaseException as error:
                cleanup.undo(error)
                raise
            for note in prepared.notes:
                told.note(note)
            yield prepared

    def _prepare(self, told: Callbacks, command: str) -> Prepared:
        """Measure the base, and what else the study needs; `command` goes on where somebody asks to stop.

        Raises:
            Interrupted: a stop was requested; the preparation's process has ended.
        """

        def say(text: str) -> None:
            self._raise_if_asked(command)
            told.activity(text)

        return self._parts.prepare(self.spec.without_secrets, self.record, say)

    @contextmanager
    def _session(self) -> Iterator[None]:
        """Own the run; set up its log, disk errors and signals."""
        path = self.record.path
        with self.record.lock, logging_to(path / "search.log"), disk_errors(path), surviving_hangup():
            yield

    def results(self) -> Results:
        """Return the run's results: those on disk, or, during a search in this process, as of the last ended trial."""
        return self._results or self._read()

    def _read(self) -> Results:
        """Read the results from disk."""
        trials = None if self._loop is None else [self._loop.trials[number] for number in sorted(self._loop.trials)]
        return Results.read(self.record, self.spec, trials, self._volumes)

    def on(self, device: str) -> Selection:
        """Choose by another device's latencies, as imported by `bench --import` (`Results.on`).

        Raises:
            ConfigError: no figures of such a device.
        """
        return Selection(self.results().on(device))

    @property
    def selection(self) -> Selection:
        """Choose by the study's own latencies."""
        return Selection(self.results())

    def trials(self) -> tuple[Trial, ...]:
        """All trials by number; during a search in this process its live ones."""
        return self.results().trials

    def base(self) -> Measurement | None:
        """The unpruned model's figures; None before it was measured."""
        return self.record.read_base()

    def front(self) -> tuple[Trial, ...]:
        """Trials that no other dominates, given the measuring error."""
        return self.results().front

    def pick(self, *bounds: Bound, budget: str | None = None, **limits: float) -> PickedTrial:
        """Return the most accurate trial within limits: `pick(latency_ms=5)`, `pick(budget="edge")`.

        Raises:
            NothingFits: carries the closest trial. ConfigError: no such budget.
        """
        return self.selection.pick(*bounds, budget=budget, **limits)

    def knee(self) -> PickedTrial:
        """Return the trial after which more accuracy becomes expensive."""
        return self.selection.knee()

    def one_se(self) -> PickedTrial:
        """Return the smallest trial within one standard error of the most accurate."""
        return self.selection.one_se()

    def trial(self, number: int, precision: str = "") -> PickedTrial:
        """One trial by its number, or its export: `trial(17, "int8")`; ConfigError where there is no such point."""
        return self.selection.trial(number, precision)

    def report(self, path: Path | None = None, device: str | None = None) -> Path:
        """Write the offline page; by default report.html of the run.

        For a `device`: report-<device>.html, the same page opened by its latencies; a user can switch back.

        Raises:
            ConfigError: no figures of such a device.
        """
        from search.present.report import write_report
        from search.results.target_views import target_views

        content = self.snapshot()
        if device is None:
            return write_report(content, path or self.record.path / "report.html", self.record.path)
        results = self.results()
        shown_on = results.on(device).target
        assert shown_on is not None
        views = target_views(results)  # figures may have come since the snapshot
        path = path or self.record.path / f"report-{shown_on.name}.html"
        return write_report({**content, "on_targets": views}, path, self.record.path, shown_on.name)

    def refresh(self) -> None:
        """Rewrite derived files (`snapshot.refresh`)."""
        refresh(self.record, self.spec)

    def snapshot(self) -> Snapshot:
        """Return the plain record for display, from disk while another process searches."""
        if self._loop is None and (not self._ended or self.record.lock.is_held_elsewhere()):
            return current_snapshot(self.results())
        return snapshot(self.results(), self.state(), self.progress())

    def state(self) -> str:
        """Return running, finished or interrupted; a killed search counts as interrupted."""
        return "running" if self._loop is not None else self._ended or state_on_disk(self.record)

    def progress(self) -> ProgressRow:
        """Return counts and times, as in the snapshot."""
        if self._loop is None:
            return self.results().progress()
        now = self._loop.progress()
        return {
            "done": now.done,
            "failed": now.failed,
            "running": len(now.running),
            "total": now.total,
            "seconds": now.seconds,
            "eta_s": now.eta_s,
        }

    def _check_inputs(self) -> None:
        """Check that the study's files and packages are there, whatever was read from a run folder."""
        paths = [
            *(("model", model) for model in self.spec.models),
            ("data", self.spec.data),
            ("modules", self.spec.modules),
        ]
        for key, path in paths:
            if path is not None and not exists(_file_of(path)):
                raise ConfigError(
                    f"no such file: {path}",
                    where=f"{key} of the study",
                    expected="the file where it was when the run began",
                    next_command=f"put it back, or name it: paretoprune resume {self.record.path} {key}=FILE",
                )
        if self._parts.engine is None:
            check_packages(self.spec)

    def _claim(self, told: Callbacks) -> dict[str, str]:
        """Write args.yaml and env.json, or check that the run on disk is this study's. Return the environment."""
        self.record.stop_path.unlink(missing_ok=True)  # one that came before the lock was taken was meant for another
        self.record.tidy()
        discard_undelivered(self.record)
        prints, resolved = fingerprint(self.spec), self.spec.resolved()
        here, digest = environment.environment(), None
        if self.spec.recover.distill and (gap := without_teacher(installed())) is not None:
            told.note(gap)
        if self.record.args_path.is_file():
            old, old_prints = self.record.read_args()
            old = with_defaults(old)
            known, found = of_one_kind(old_prints, prints)
            check_comparable(comparable(old, known), comparable(resolved, found), run=self.record.path)
            if known != old_prints:
                told.note(_OLDER_FINGERPRINT)
            before = self.record.read_environment()
            self.record.trials()  # refuses what is not of this run before hours are spent beside it
            if not self._mix_versions:
                environment.check_versions(before, here, self.record.path)
            for change in environment.changes(before, here):
                told.note(f"not the environment that the run began in: {change}")
            here = environment.mixed(before, here)
            digest = old_prints.get(STUDY)
        elif self.record.trials():
            raise RunCorrupt("trials without args.yaml", where=str(self.record.path))
        else:
            self.record.discard_preparation()
            self.record.write_environment(here)
        digest = digest or json_digest(comparable(resolved, prints))
        self.record.write_args(resolved, {**prints, STUDY: digest})
        return here

    def _run(self, prepared: Prepared, told: Callbacks) -> None:
        from search.propose.initial_candidates import opening
        from search.propose.optuna_backend.storage import sqlite_url
        from search.propose.optuna_proposer import OptunaProposer

        search = self.spec.search
        self._keep_claim()
        proposer = OptunaProposer(
            self.spec.storage or sqlite_url(self.record.study_db),
            self.spec.run_name,
            prepared.searched,
            self.objectives,
            bounds=self.spec.bounds,
            sampler=search.sampler,
            seed=search.seed,
            workers=search.workers,
            opening=opening(prepared.searched) if prepared.guide is None else prepared.guide.opening(),
            guide=prepared.guide,
        )
        room = DiskSpace(self.record.path, max(map(model_bytes, self.spec.models)))
        loop = Loop(
            proposer,
            self._engine(prepared),
            prepared.evaluator,
            self.record,
            Limits(search.trials, search.hours, search.trial_minutes, self._until, search.patience, self.spec.stuck_s),
            StudyPolicy(self.spec, prepared, room, self.results, self._keep_claim),
            seed=search.seed,
            clock=self._parts.clock,
            on_start=lambda trial: told.tell(lambda one: one.on_trial_start(self, trial)),
            on_trial=lambda trial: self._after(trial, told),
            watch=lambda progress: told.tell(lambda one: one.on_progress(self, progress)),
            note=lambda text: self._note_rebuilt(text, told),
            is_own_storage=self.spec.storage is None,
        )
        error: BaseException | None = None
        try:
            self._ended = "interrupted"
            told.start(self._front_before(proposer.history()))
            self._loop = loop
            with interrupting(loop):
                self._run_to_the_end(prepared, loop, told)
            self._ended = "finished"
            shutil.rmtree(self.record.batches_dir, ignore_errors=True)
        except BaseException as raised:
            error = raised
            raise
        finally:
            proposer.close()
            self._loop = self._results = None
            results = self._read()
            self._drawn(results)
            told.front(results.front)
            told.tell(lambda one: one.on_search_end(self, error))

    def _front_before(self, history: History) -> tuple[Trial, ...]:
        """Return the front of the trials that earlier sessions reported: those measured but not told are yet to be."""
        pending = {proposal.number for proposal in history.pending}
        trials = self.record.trials()
        if pending.isdisjoint(trial.number for trial in trials):
            return self.front()
        return Results.read(self.record, self.spec, [one for one in trials if one.number not in pending]).front

    def _note_rebuilt(self, text: str, told: Callbacks) -> None:
        """Say that study.db was rebuilt: now, in the log, and for good in env.json, which the page shows."""
        log.warning("%s", text)
        told.note(text)
        self.record.write_environment({**self.record.read_environment(), environment.REBUILT: text})

    def _run_to_the_end(self, prepared: Prepared, loop: Loop, told: Callbacks) -> None:
        """Run the trials, then the final steps, or the rest of those that were interrupted."""
        before, limits = self.record.read_ending(), self._limits()
        if before is not None and not before["closed"] and before["limits"] == limits:
            loop.restore()
            end = {"reason": before["reason"], "sentence": before["sentence"]}
        else:
            self.record.ending_path.unlink(missing_ok=True)
            loop.run()
            assert loop.end is not None
            end = loop.end.to_json()
        told.note(f"the search ends: {end['sentence']}")
        write_json(self.record.ending_path, {"format": 1, **end, "limits": limits, "closed": False})
        reached("closing")
        self._final_steps(prepared, told, loop.raise_if_stopped, loop.timeout_s()).run()
        write_json(self.record.ending_path, {"format": 1, **end, "limits": limits, "closed": True})

    def _limits(self) -> dict[str, Any]:
        """Return the limits of the search; a session with other limits continues searching."""
        search = self.spec.search
        return {name: getattr(search, name) for name in ("trials", "hours", "until", "patience")}

    def _final_steps(
        self, prepared: Prepared, told: Callbacks, check: Callable[[], None], timeout_s: float
    ) -> FinalSteps:
        return FinalSteps(
            self._read, prepared, told.note, told.activity, self._engine, check, timeout_s, self.spec.stuck_s
        )

    def measure_baselines(self, named: Sequence[str], callbacks: Sequence[Callback] = ()) -> Study:
        """Measure the named baselines of an existing run; failed ones are tried again. Returns itself.

        Raises:
            RunLocked: a process searches this run. Interrupted: a stop was requested; finished measurements are kept.
            ConfigError: a file of the study is gone.
        """
        told = Callbacks(self, callbacks)
        self._check_inputs()
        with self._session():
            self._claim(told)
            prepared = self._prepare(told, "baselines")
            timeout_s = trial_timeout_s(self.record.trials(), self.spec.search.trial_minutes)
            try:
                steps = self._final_steps(prepared, told, lambda: self._raise_if_asked("baselines"), timeout_s)
                steps.measure_rows(named)
            finally:
                shutil.rmtree(self.record.batches_dir, ignore_errors=True)
                write_snapshot(self.results(), self.state(), self.progress())
        return self

    def _raise_if_asked(self, command: str) -> None:
        """Raise Interrupted if a stop was requested; `command` is the one that goes on."""
        if self.record.stop_path.exists():
            self.record.stop_path.unlink(missing_ok=True)
            again = f"paretoprune {command} {self.record.path}"
            raise Interrupted("stopped; what was measured so far is kept", next_command=again)

    def _engine(self, prepared: Prepared) -> Engine[Any]:
        if self._parts.engine is not None:
            return self._parts.engine(self.spec, prepared)
        return engine_of(self.spec, prepared, self.record, self._parts.clock)

    def _after(self, trial: Trial, told: Callbacks) -> None:
        assert self._loop is not None
        results = self._results = self._read()
        self._drawn(results)
        reached("drawn")
        ranked = results.ranked
        needed = {*ranked.front, *map(PointId, self._loop.continued)}
        discard(self.record, results.points, {*ranked.undominated, *needed}, self.spec.keep, needed)
        reached("discarded")
        told.tell(lambda one: one.on_trial_end(self, trial))
        told.front(results.front)

    def _drawn(self, results: Results) -> Snapshot:
        """Write the snapshot if the disk permits; it is derived and can be written again."""
        state, progress = self.state(), self.progress()
        try:
            return write_snapshot(results, state, progress)
        except OSError as error:
            log.warning("the snapshot could not be written: %s", error)
            return snapshot(results, state, progress)


def _named(overrides: Mapping[str, Any], study: Path | None) -> dict[str, Any]:
    """Return overrides with the path of a checkpoint in the place of each YOLO object.

    Its file is read for that with the `modules` and the `trust` of the study.
    """
    model = overrides.get("model")
    given = list(model) if isinstance(model, list | tuple) else [model]
    if not any(map(is_loaded, given)):
        return dict(overrides)
    said = {} if study is None else read(study).data
    project, trust = Path(str(overrides.get("project", "runs/prune"))), overrides.get("trust", said.get("trust"))
    if overrides.get("modules", said.get("modules")) is not None:
        place = study.resolve().parent if study is not None and "modules" not in overrides else Path.cwd()
        use([str(absolute(Path(str({**said, **overrides}["modules"])), place))])

    def readable(file: Path) -> Path:
        is_trusted = trust is not None and file_digest(file) == trust
        return clean_copy(file, str(trust), project / "trusted") if is_trusted else file

    named = [str(checkpoint_of(one, project / FOLDER, readable)) if is_loaded(one) else one for one in given]
    return {**overrides, "model": named if isinstance(model, list | tuple) else named[0]}


def _dotted(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten `search={"trials": 5}` to one key of a section; budgets and constraints are replaced as a whole."""
    found: dict[str, Any] = {}
    for key, value in overrides.items():
        if key in _SECTIONS and isinstance(value, Mapping):
            found |= {f"{key}.{name}": item for name, item in value.items()}
        else:
            found[key] = value
    return found


def engine_of(spec: StudySpec, prepared: Prepared, record: RunRecord, clock: Clock) -> Engine[Any]:
    """Processes of this machine for `engine: optuna`, workers of a Ray cluster for `engine: ray`.

    Raises:
        ServerMissing: there is no cluster at `search.address`.
    """
    if spec.search.engine == "ray":
        from search.prepare.prepare import base_name
        from search.workers.ray_cluster.ray_engine import RayEngine

        exported = files_of(record.base_dir / base_name(spec))
        files = (*map(_file_of, (*spec.models, spec.data)), *exported)
        return RayEngine(spec.search, record.path, spec.device, preload=prepared.preload, files=files)
    from search.workers.local import LocalEngine

    return LocalEngine(spec.search.workers, preload=prepared.preload, clock=clock)


def _file_of(value: str) -> Path:
    """Return the path of a checkpoint, a data set's YAML, or the file of a user's own model or task."""
    own = UserReference.parse(value)
    return Path(value) if own is None else own.file
