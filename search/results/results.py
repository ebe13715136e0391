"""Results of a run at one moment, with derived values cached."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from objectives.choice import Bound
from objectives.objective import Objective, objectives_named
from search.config.spec import StudySpec
from search.results import ranking
from search.results.exported_points import exported_trials
from search.results.ranking import Ranked, VolumeTrack
from search.results.remeasured import refined
from search.results.schema import PickRow, ProgressRow, VolumePoint
from search.results.target_device import Target, read_target
from search.run_folder.record import RunRecord
from search.trial import Measurement, Trial, TrialState


@dataclass(frozen=True)
class Results:
    """The trials of a study and what follows from them. One is built per event and passed on.

    Attributes:
        spec: the study, with its constraints and budgets.
        trials: by number, with measurements after the search.
        base: the unpruned model's figures; None before it was measured.
        exported: the trials' exports in other precisions.
        target: the device of the latencies; None for the study's own runtime.
        own: the results by the study's own runtime, if these are another device's.
        further: figures of the bases beside the first, in the order of the study; none by another device's latencies.
        volumes: hypervolumes computed so far; passed from one event to the next.
    """

    spec: StudySpec
    record: RunRecord
    trials: tuple[Trial, ...]
    base: Measurement | None
    exported: tuple[Trial, ...] = ()
    target: Target | None = None
    own: Results | None = None
    further: tuple[Measurement, ...] = ()
    volumes: VolumeTrack = field(default_factory=VolumeTrack, compare=False, repr=False)

    @classmethod
    def read(
        cls,
        record: RunRecord,
        spec: StudySpec,
        trials: Iterable[Trial] | None = None,
        volumes: VolumeTrack | None = None,
    ) -> Results:
        """Read the results of a run.

        Args:
            trials: as a live search knows them; None: as they lie on disk.
            volumes: hypervolumes of earlier results of the same run.

        Raises:
            RunCorrupt: a file of the run cannot be read.
        """
        known = refined(record, record.trials() if trials is None else trials)
        exported = exported_trials(record, known)
        return cls(
            spec,
            record,
            known,
            record.read_base(),
            exported,
            further=record.further_bases() if len(spec.models) > 1 else (),
            volumes=volumes or VolumeTrack(),
        )

    @cached_property
    def objectives(self) -> tuple[Objective, ...]:
        """Objectives, in the order of the study."""
        return objectives_named(self.spec.objectives)

    @property
    def bases(self) -> tuple[Measurement, ...]:
        """The measured bases, in the order of the study."""
        return () if self.base is None else (self.base, *self.further)

    @property
    def points(self) -> tuple[Trial, ...]:
        """Everything that can be chosen: trials and exports."""
        return (*self.trials, *self.exported)

    @property
    def here(self) -> Results:
        """Results by the latencies of the study's own runtime."""
        return self.own or self

    @cached_property
    def ranked(self) -> Ranked:
        """Points that can be chosen from, and the front."""
        return ranking.rank(self.points, self.spec.bounds, self.objectives)

    @cached_property
    def searched(self) -> Ranked:
        """As `ranked`, of the trials alone."""
        return ranking.rank(self.trials, self.spec.bounds, self.objectives) if self.exported else self.ranked

    @cached_property
    def front(self) -> tuple[Trial, ...]:
        """The points that no other dominates, given the measuring error."""
        return tuple(point for point in self.ranked.trials if point.id in self.ranked.on_front)

    @cached_property
    def limits(self) -> dict[str, tuple[Bound, ...]]:
        """The study's budgets as bounds, by name."""
        base = {} if self.base is None else {name: figure.value for name, figure in self.base.figures.items()}
        return {name: self.spec.budget(name, base) for name in self.spec.budgets}

    @cached_property
    def picks(self) -> dict[str, PickRow]:
        """The choice within each budget (`ranking.picks`); empty while nothing can be chosen."""
        return ranking.picks(self.ranked, self.limits, self.objectives) if self.ranked.trials else {}

    @cached_property
    def hypervolume(self) -> list[VolumePoint]:
        """[{"trial", "value"}] after each trial; empty before the base was measured."""
        if not self.bases:
            return []
        return self.volumes.upto(self.searched, self.objectives, ranking.outermost(self.bases, self.objectives))

    def pick(self, bounds: Sequence[Bound]) -> tuple[Trial, str]:
        """Return the best point within bounds, and a sentence with the reason.

        Raises:
            NothingFits: carries the closest point. ObjectiveError: there is nothing to choose from.
        """
        return self._located(ranking.pick(self.ranked, bounds, self.objectives))

    def knee(self) -> tuple[Trial, str]:
        """Return the point after which more accuracy becomes expensive."""
        return self._located(ranking.knee(self.ranked, self.objectives))

    def one_se(self) -> tuple[Trial, str]:
        """Return the smallest point within one standard error of the most accurate."""
        return self._located(ranking.one_se(self.ranked, self.objectives))

    def _located(self, chosen: tuple[Trial, str]) -> tuple[Trial, str]:
        trial, sentence = chosen
        return trial, sentence if self.target is None else f"On {self.target.name}: {sentence}"

    def on(self, device: str) -> Results:
        """Return the results by another device's latencies, as imported by `bench --import`.

        They hold the trials that were timed there, and no exports, which were timed here. Constraints on latency refer
        to the study's own runtime and are ignored; budgets apply. Costs that were measured on this runtime only (end to
        end, memory, energy, those of a `command:`) are no figures there: latency takes their place among the
        objectives, constraints on them are ignored, and budgets with a limit of them are left out.

        Raises:
            ConfigError: no figures of such a device. RunCorrupt: figures that cannot be read.
        """
        here, target = self.here, read_target(self.record, device)
        own = {"latency_ms", *({} if here.base is None else here.base.timing.get("further", {}))}
        constraints = {name: text for name, text in self.spec.constraints.items() if name not in own}
        further = own - {"latency_ms"}
        budgets = {name: limits for name, limits in self.spec.budgets.items() if not further & limits.keys()}
        objectives = tuple(dict.fromkeys("latency_ms" if name in own else name for name in self.spec.objectives))
        named = {"constraints": constraints, "objectives": objectives, "budgets": budgets}
        return Results(
            spec=self.spec.model_copy(update=named),
            record=self.record,
            trials=target.trials(here.trials),
            base=None if here.base is None else target.base(here.base),
            target=target,
            own=here,
        )

    def progress(self) -> ProgressRow:
        """Counts and times of a run that is not being searched, as in the snapshot."""
        return {
            "done": sum(trial.state == TrialState.COMPLETE for trial in self.trials),
            "failed": sum(trial.state == TrialState.FAILED for trial in self.trials),
            "running": 0,
            "total": self.spec.search.trials,
            "seconds": sum(trial.seconds_total for trial in self.trials) / self.spec.search.workers,
            "eta_s": None,
        }
