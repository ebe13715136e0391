"""A search whose true front is known: figures in closed form, failures on demand. Needs no torch."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from objectives.image_size import Size, area, sides, written
from objectives.objective import Estimate, objectives_named
from search.config.spec import StudySpec
from search.evaluate.baselines import Baseline
from search.evaluate.evaluator import Evaluator, PrunedCandidate
from search.evaluate.timing.progress import Phases
from search.prepare.prepared import FinalMeasurements, Prepared
from search.propose.allocation import Allocator, Floats, Ints, divergence_of, width_options_of
from search.propose.guided import Guide, Variant
from search.propose.screening import AccuracyGoal
from search.run_folder.atomic import write_json
from search.run_folder.record import RunRecord
from search.space import Block, Dimension, Space
from search.testing.simulated import Cut
from search.trial import Candidate, FinalLatency, Measurement, ScreeningLimit

PRELOAD = ("search.testing.known_front",)
DIMENSIONS = ("stem", "neck", "head")
BLOCKS = ("body.m.0", "body.m.1")
OBJECTIVES = objectives_named(("map50_95", "latency_ms", "params_m"))
_SIZE = 64


def known_space(low: float = 0.0, high: float = 0.8, sizes: tuple[Size, ...] = (640,), *, depth: bool = False) -> Space:
    """Return three dimensions of one group each; with `depth`, two removable blocks."""
    dimensions = tuple(Dimension(name, (name,), low, high) for name in DIMENSIONS)
    return Space(dimensions, sizes, blocks=tuple(map(Block, BLOCKS)) if depth else ())


@dataclass(frozen=True)
class KnownFrontEvaluator:
    """Figures in closed form: accuracy falls with the weighted square of the ratios, costs fall linearly.

    With equal weights the front is the set of equal ratios; `head` has a larger weight, so that the true front prunes
    it less: ratio proportional to 1 / weight wherever no bound is met (Lagrange).

    Args:
        sleep_s: real seconds per trial; `uneven`: its largest relative variation by trial number.
        seconds: reported duration of a trial.
        round_to: channels per step of the 64 of each group.
    """

    sleep_s: float = 0.0
    uneven: float = 0.0
    seconds: float = 60.0
    round_to: int = 1

    def slept_s(self, number: int) -> float:
        """Return the real seconds of a trial, evenly distributed (multiples of the golden ratio)."""
        return self.sleep_s * (1 + self.uneven * (2 * (0.618 * number % 1) - 1))

    def pruned(self, candidate: Candidate) -> PrunedCandidate:
        widths = {name: self._width(ratio) for name, ratio in candidate.ratios.items()}
        return PrunedCandidate(f"{sorted(widths.items())}:{candidate.removed}:{candidate.imgsz}", widths)

    def evaluate(
        self, candidate: Candidate, number: int, seed: int, work_dir: Path, screening: ScreeningLimit | None = None
    ) -> Measurement:
        """Measure as `Evaluator.evaluate`. The score is the lost accuracy."""
        time.sleep(self.slept_s(number))
        pruned = self.pruned(candidate)
        shares = {name: 1 - w / _SIZE for name, w in pruned.widths.items()}
        figures = known_figures(shares, candidate.imgsz, len(candidate.removed))
        score = 0.5 - figures["map50_95"].value
        screened = screening is not None and not screening.admits(score)
        if screened:
            del figures["map50_95"]
        seconds = {"score": 1.0} if screened else {"recover": self.seconds}
        return Measurement(figures, pruned.widths, digest=pruned.key, seconds=seconds, score=score, screened=screened)

    def _width(self, ratio: float) -> int:
        kept = math.ceil((1 - ratio) * _SIZE / self.round_to) * self.round_to
        return max(self.round_to, min(_SIZE, kept))


@dataclass(frozen=True)
class LearningEvaluator(KnownFrontEvaluator):
    """The known front, from which a trial of few epochs is away: what is lost falls with a power of the epochs.

    Args:
        epochs: of a trial of its own, in which it loses twice what the known front loses.
    """

    epochs: float = 4.0

    def pruned(self, candidate: Candidate) -> PrunedCandidate:
        found, further = super().pruned(candidate), candidate.promotion
        return found if further is None else replace(found, key=f"{found.key}:{further.trial}+{further.epochs:g}")

    def evaluate(
        self, candidate: Candidate, number: int, seed: int, work_dir: Path, screening: ScreeningLimit | None = None
    ) -> Measurement:
        """Measure as `Evaluator.evaluate`; seconds are in proportion to the epochs."""
        measured = super().evaluate(candidate, number, seed, work_dir, screening)
        if measured.screened:
            return measured
        further = candidate.promotion
        own, total = (self.epochs, self.epochs) if further is None else (further.epochs, further.total)
        lost = 2 * (0.5 - measured.figures["map50_95"].value) * (total / self.epochs) ** -0.5
        figures = {**measured.figures, "map50_95": Estimate.exact(max(0.0, 0.5 - lost))}
        seconds = {"recover": self.seconds * own / self.epochs}
        score = None if further is not None else measured.score
        return replace(measured, figures=figures, seconds=seconds, epochs=total, score=score)


@dataclass(frozen=True)
class StallingEvaluator(KnownFrontEvaluator):
    """The known front, whose trials hang from number `stalls_from` on until killed."""

    stalls_from: int = 0

    def slept_s(self, number: int) -> float:
        """Sleep as `KnownFrontEvaluator.slept_s`, or for ever."""
        return 3600.0 if number >= self.stalls_from else 0.0


def known_figures(shares: Mapping[str, float], imgsz: Size = 640, removed: int = 0) -> dict[str, Estimate]:
    """Return the figures for the share of channels removed per dimension, and the number of removed blocks."""
    loss = sum((1 + index) * share**2 for index, share in enumerate(shares.values()))
    mean = sum(shares.values()) / len(shares)
    scale = area(imgsz) / 640**2
    accuracy = 0.5 - 0.05 * loss - 0.1 * (1 - scale) - 0.02 * removed
    latency = 10.0 * (1 - 0.8 * mean) * scale * (1 - 0.05 * removed)
    return {
        "map50_95": Estimate(accuracy, accuracy - 0.002, accuracy + 0.002),
        "latency_ms": Estimate(latency, latency * 0.99, latency * 1.01),
        "params_m": Estimate.exact(3.0 * (1 - mean)),
    }


@dataclass(frozen=True)
class NotingEvaluator:
    """Appends `number pid` as a line to `log` when a trial starts, in one write; measures as the known front."""

    log: str
    sleep_s: float = 0.0

    def pruned(self, candidate: Candidate) -> PrunedCandidate:
        return KnownFrontEvaluator().pruned(candidate)

    def evaluate(
        self, candidate: Candidate, number: int, seed: int, work_dir: Path, screening: ScreeningLimit | None = None
    ) -> Measurement:
        handle = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(handle, f"{number} {os.getpid()}\n".encode())
        os.close(handle)
        return KnownFrontEvaluator(self.sleep_s).evaluate(candidate, number, seed, work_dir, screening)


@dataclass(frozen=True)
class FailingEvaluator:
    """Fails the trials whose number is in `failures`, in the named way; measures the others.

    Ways: raise, nan, memory, exit (os._exit), signal (SIGSEGV), stop (SIGSTOP), hang, babble (prints, then raises).
    """

    failures: Mapping[int, str]
    inner: KnownFrontEvaluator = KnownFrontEvaluator()

    def pruned(self, candidate: Candidate) -> PrunedCandidate:
        return self.inner.pruned(candidate)

    def evaluate(
        self, candidate: Candidate, number: int, seed: int, work_dir: Path, screening: ScreeningLimit | None = None
    ) -> Measurement:
        if number in self.failures:
            _fail(self.failures[number])
        return self.inner.evaluate(candidate, number, seed, work_dir, screening)


@dataclass(frozen=True)
class WitnessedEvaluator:
    """Creates a file NUMBER-PID in `folder` at every start of a trial, and `note.txt` in the trial's folder.

    Args:
        losses: number -> how often that trial kills the worker of a Ray engine, as a node failure would. Not for
            processes of this machine, whose worker is the caller.
        stalls: numbers of trials that stand still at their first start, until killed; the second one measures.
    """

    folder: Path
    inner: Evaluator = KnownFrontEvaluator()
    losses: Mapping[int, int] = field(default_factory=dict)
    stalls: tuple[int, ...] = ()

    def pruned(self, candidate: Candidate) -> PrunedCandidate:
        return self.inner.pruned(candidate)

    def evaluate(
        self, candidate: Candidate, number: int, seed: int, work_dir: Path, screening: ScreeningLimit | None = None
    ) -> Measurement:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{number}-{os.getpid()}").touch()
        if self.begun(number) <= self.losses.get(number, 0):
            os.kill(ancestors(os.getpid())[1], signal.SIGKILL)
            time.sleep(60)
        if number in self.stalls and self.begun(number) == 1:
            time.sleep(3600)
        (work_dir / "note.txt").write_text(f"trial {number}")
        with Phases(work_dir)("recover"):
            return self.inner.evaluate(candidate, number, seed, work_dir, screening)

    def begun(self, number: int) -> int:
        """Return how often a trial was started."""
        return len(list(self.folder.glob(f"{number}-*")))


def ancestors(pid: int) -> list[int]:
    """Return process ids of the parent, its parent and so on; for a trial: the fork server, the worker, its starter."""
    found = []
    while pid > 1:
        stat = Path(f"/proc/{pid}/stat").read_text()
        pid = int(stat.rpartition(")")[2].split()[1])
        found.append(pid)
    return found


def _fail(way: str) -> None:
    if way == "exit":
        os._exit(7)
    if way == "signal":
        os.kill(os.getpid(), signal.SIGSEGV)
    if way == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if way == "hang":
        time.sleep(3600)
    if way == "babble":
        print("a line that belongs into train.log")
    if way == "nan":
        Estimate(math.nan, 0.0, 1.0)
    if way == "memory":
        raise MemoryError("CUDA out of memory")
    raise RuntimeError("failed on purpose")


def known_base() -> Measurement:
    """Return the unpruned model of the known front."""
    return Measurement(known_figures(dict.fromkeys(DIMENSIONS, 0.0)), dict.fromkeys(DIMENSIONS, _SIZE))


@dataclass(frozen=True)
class KnownFinalMeasurements:
    """A `FinalMeasurements` with baselines in closed form, and latencies with a tenth of a trial's error.

    Args:
        failures: kinds of baselines, and "together", that fail; `cut`: the one at which power is cut.
        seconds: reported duration of an untrained baseline; `trained_s`: of a trained one.
        shift: factor of the joint measurement on the known latencies.
    """

    failures: tuple[str, ...] = ()
    cut: str = ""
    seconds: float = 20.0
    trained_s: float = 60.0
    shift: float = 1.0

    def baseline(self, row: Baseline, seed: int, work_dir: Path) -> Measurement:
        self._disturb(row.kind)
        if row.candidate is not None:
            return replace(known_measurement(row.candidate), seconds={"recover": self.trained_s})
        figures = known_figures(dict.fromkeys(DIMENSIONS, row.ratio or 0.0), row.imgsz or 640)
        return Measurement(figures, seconds={"accuracy": self.trained_s if row.is_trained else self.seconds})

    def together(self, candidates: Mapping[int, Candidate], seed: int, work_dir: Path) -> dict[int, FinalLatency]:
        self._disturb("together")
        return {number: FinalLatency(self._latency(one), {"flags": []}) for number, one in candidates.items()}

    def _latency(self, candidate: Candidate) -> Estimate:
        value = self.shift * known_measurement(candidate).figures["latency_ms"].value
        return Estimate(value, 0.999 * value, 1.001 * value)

    def _disturb(self, what: str) -> None:
        if what == self.cut:
            raise Cut(what)
        if what in self.failures:
            _fail("raise")


@dataclass(frozen=True)
class KnownFront:
    """A `Preparation` for studies without a model; pass it as `Parts(prepare=KnownFront())`."""

    evaluator: Evaluator = KnownFrontEvaluator()
    guide: Guide | None = None
    final: FinalMeasurements | None = None

    def __call__(self, spec: StudySpec, record: RunRecord, say: Callable[[str], None] = lambda text: None) -> Prepared:
        say("measuring the base")
        low, high = spec.space.ratio
        groups = tuple({"name": name, "size": _SIZE, "stage": name, "frozen": None, "tie": None} for name in DIMENSIONS)
        base = known_base()
        record.write_base(base)
        record.write_groups(groups)
        write_json(record.base_dir / "whatif.json", known_what_if(low, high, spec.sizes), durable=False)
        space = known_space(low, high, spec.sizes, depth=spec.space.depth)
        return Prepared(self.evaluator, space, base, groups, (), PRELOAD, self.guide, self.final)


def known_what_if(low: float, high: float, sizes: Sequence[Size]) -> dict[str, Any]:
    """Return base/whatif.json of the known front: 15,625 parameters a channel, as `known_figures`; MACs the square."""
    groups, params = list(DIMENSIONS), round(3e6 / len(DIMENSIONS) / _SIZE)
    columns = [{"of": []}, *({"of": [[number, 1]]} for number in range(len(groups)))]
    terms = [[params, 0, number + 1] for number in range(len(groups))]
    macs = {
        str(written(size)): [[max(sides(size)), number + 1, number + 1] for number in range(len(groups))]
        for size in sizes
    }
    rule = [{"groups": [name], "steps": [1], "n": _SIZE, "step": 1, "minimum": 1} for name in groups]
    return {
        "format": 1,
        "dimensions": [{"name": name, "groups": [name], "low": low, "high": high} for name in groups],
        "blocks": [],
        "sizes": list(map(written, sizes)),
        "rule": rule,
        "cost": {"groups": groups, "columns": columns, "params": terms, "macs": macs, "layers": {}, "blocks": []},
    }


def known_measurement(candidate: Candidate) -> Measurement:
    """Return the measurement of `KnownFrontEvaluator`."""
    return KnownFrontEvaluator().evaluate(candidate, 0, 0, Path())


@dataclass(frozen=True)
class KnownCost:
    """Latency of the known front as a share of the base's, from widths."""

    def __call__(self, widths: Ints, removed: tuple[str, ...]) -> Floats:
        mean = (1 - widths / _SIZE).mean(axis=1)
        return np.asarray((1 - 0.8 * mean) * (1 - 0.05 * len(removed)))


def known_guide(seed: int = 0, errors: Sequence[float] = (1.0, 1.0, 1.0), targets: tuple[float, ...] = ()) -> Guide:
    """Return a guide of the known front. `errors` multiply the true prices of the dimensions, as sensitivity errors."""
    from pruning.sensitivity import Curve  # brings torch with it

    space = known_space()
    shares = np.arange(0, 52) / _SIZE
    dims = []
    for number, (name, error) in enumerate(zip(DIMENSIONS, errors, strict=True)):
        prices = error * 0.1 * (1 + number) * shares**2
        curve = Curve.through(list(zip(shares[1:].tolist(), divergence_of(prices[1:]).tolist(), strict=True)))
        widths = [[round((1 - share) * _SIZE)] for share in shares.tolist()]
        dims.append(width_options_of(name, [number], widths, shares.tolist(), curve, name))
    allocator = Allocator(space, tuple(dims), (), np.full(len(DIMENSIONS), _SIZE), KnownCost())
    return Guide(allocator, AccuracyGoal("map50_95", 0.5), (Variant(640),), targets, seed)
