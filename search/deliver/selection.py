"""Choose a trial from results: within limits, at the knee, or by its number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from objectives.choice import Bound
from search.deliver.picked_trial import PickedTrial
from search.errors import ConfigError, near_miss
from search.results.results import Results
from search.trial import PointId


@dataclass(frozen=True)
class Selection:
    """Choices from results, by the study's own latencies or another device's."""

    results: Results

    def pick(self, *bounds: Bound, budget: str | None = None, **limits: float) -> PickedTrial:
        """Return the most accurate trial within limits: `pick(latency_ms=5)`, `pick(budget="edge")`.

        Raises:
            NothingFits: carries the closest trial. ConfigError: no such budget, or no trial to choose from.
        """
        asked = [*bounds, *(Bound.budget(name, limit) for name, limit in limits.items())]
        if budget is not None:
            asked += self._budget(budget)
        trial, sentence = self._with_trials().pick(asked)
        return PickedTrial(self.results, trial, sentence, tuple(asked), budget)

    def knee(self) -> PickedTrial:
        """Return the trial after which more accuracy becomes expensive."""
        return PickedTrial(self.results, *self._with_trials().knee())

    def one_se(self) -> PickedTrial:
        """Return the smallest trial within one standard error of the most accurate."""
        return PickedTrial(self.results, *self._with_trials().one_se())

    def trial(self, number: int, precision: str = "") -> PickedTrial:
        """One trial by its number, or its export in a precision; ConfigError where there is no such point."""
        wanted = PointId(number, precision)
        found = next((point for point in self.results.here.points if point.id == wanted), None)
        if found is None:
            path = self.results.record.path
            raise ConfigError(f"{path} has no trial {wanted}", next_command=f"paretoprune ls {path}")
        return PickedTrial(self.results, found, f"trial {found.id}")

    def base(self, place: int = 0) -> PickedTrial:
        """Return the unpruned model; of several bases that at a place of the study."""
        return PickedTrial(self.results, None, "the unpruned model", unpruned=place)

    def _budget(self, name: str) -> Sequence[Bound]:
        limits = self.results.limits
        if name not in limits:
            there = "" if self.results.target is None else f" that {self.results.target.name} has figures for"
            raise ConfigError(
                f"the study has no budget {name!r}{there}",
                expected=", ".join(limits) or "a budget in study.yaml",
                near=near_miss(name, limits),
                next_command=f"paretoprune pick {self.results.record.path} --max latency_ms=5",
            )
        return limits[name]

    def _with_trials(self) -> Results:
        if not self.results.ranked.trials:
            path = self.results.record.path
            raise ConfigError(
                f"{path} has no trial to choose from",
                expected="at least one complete trial within the constraints",
                next_command=f"paretoprune status {path}",
            )
        return self.results
