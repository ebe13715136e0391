"""A study of two bases whose true front is known: the known front, and a smaller sibling of it in scale. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectives.image_size import Size
from objectives.objective import Estimate
from search.config.spec import StudySpec
from search.evaluate.evaluator import Evaluator, EvaluatorByBase, PrunedCandidate
from search.prepare.prepared import FinalMeasurements, Prepared
from search.propose.bases.division import BaseGuide, GuideByBase
from search.propose.screening import AccuracyGoal
from search.run_folder.record import RunRecord
from search.space import JointSpace
from search.testing.known_front import KnownFront, KnownFrontEvaluator, known_base, known_guide, known_space
from search.testing.simulated import InlineEngine, SimulatedClock
from search.trial import Candidate, Measurement, ScreeningLimit

if TYPE_CHECKING:
    from search.study import Study

_COSTS = ("latency_ms", "params_m")


@dataclass(frozen=True)
class ScaledEvaluator:
    """The known front of another base: its costs and its accuracy are shares of the first one's."""

    cost: float = 0.5
    accuracy: float = 0.9
    inner: Evaluator = field(default_factory=KnownFrontEvaluator)

    def pruned(self, candidate: Candidate) -> PrunedCandidate:
        return self.inner.pruned(candidate)

    def evaluate(
        self, candidate: Candidate, number: int, seed: int, work_dir: Path, screening: ScreeningLimit | None = None
    ) -> Measurement:
        return self.scaled(self.inner.evaluate(candidate, number, seed, work_dir, screening))

    def scaled(self, measured: Measurement) -> Measurement:
        """Return the figures of this base instead of those of the first."""
        factors = dict.fromkeys(_COSTS, self.cost) | {"map50_95": self.accuracy}
        figures = {n: _times(figure, factors.get(n, 1.0)) for n, figure in measured.figures.items()}
        return replace(measured, figures=figures)


def _times(figure: Estimate, factor: float) -> Estimate:
    return Estimate(figure.value * factor, figure.low * factor, figure.high * factor)


def known_evaluators(small: ScaledEvaluator) -> EvaluatorByBase:
    """Return the evaluator of a study of the known front and of `small`."""
    return EvaluatorByBase((small.inner, small))


def known_joint(low: float = 0.0, high: float = 0.8, sizes: tuple[Size, ...] = (640,)) -> JointSpace:
    """Return the space of two bases; the second lacks the first one's removable blocks."""
    return JointSpace((known_space(low, high, sizes, depth=True), known_space(low, high, sizes)))


def known_guides(small: ScaledEvaluator, seed: int = 0, targets: tuple[float, ...] = ()) -> GuideByBase:
    """Return the guides of the known front and of `small`.

    Args:
        targets: costs of budgets as shares of the first base's.
    """
    first = known_guide(seed, targets=targets)
    own = tuple(target / small.cost for target in targets if target < small.cost)
    goal = AccuracyGoal("map50_95", first.gain.base * small.accuracy)
    second = replace(known_guide(seed, targets=own), gain=goal, base_ms=None)
    return GuideByBase((BaseGuide(first), BaseGuide(second, small.cost)))


@dataclass(frozen=True)
class KnownBases:
    """A `Preparation` for studies of two bases without a model.

    Args:
        small: the second base.
        guided: whether `auto` has the guides of both.
    """

    small: ScaledEvaluator = field(default_factory=ScaledEvaluator)
    guided: bool = True
    final: FinalMeasurements | None = None

    def __call__(self, spec: StudySpec, record: RunRecord, say: Callable[[str], None] = lambda text: None) -> Prepared:
        first = KnownFront(final=self.final)(spec, record, say)
        further = record.of_base(1)
        further.write_base(self.small.scaled(known_base()))
        further.write_groups([{**group, "size": 32} for group in first.groups])
        joint = JointSpace((first.space, first.space))
        guide = known_guides(self.small, spec.search.seed) if self.guided else None
        return replace(first, evaluator=known_evaluators(self.small), joint=joint, guide=guide)


def search_two_bases(folder: Path, trials: int, small: ScaledEvaluator | None = None, **overrides: Any) -> Study:
    """Search a study of two bases, `large` and `small`, in this process, on a simulated clock; return it finished.

    Args:
        folder: of the study's files, and of its project `runs`.
    """
    from search.study import Parts, Study

    for name in ("large.pt", "small.pt"):
        (folder / name).write_bytes(name.encode())
    (folder / "data.yaml").write_text("path: .\ntrain: images\nval: images\n")
    clock = SimulatedClock()
    parts = Parts(
        prepare=KnownBases(small or ScaledEvaluator(0.5, 0.95)),
        engine=lambda spec, prepared: InlineEngine(clock, spec.search.workers, None),
        clock=clock,
    )
    keys: dict[str, Any] = {"imgsz": 640, "name": "two", "project": str(folder / "runs"), "search.trials": trials}
    models = [str(folder / name) for name in ("large.pt", "small.pt")]
    return Study(model=models, data=str(folder / "data.yaml"), parts=parts, **{**keys, **overrides}).search()
