"""For tests of searches: a known front, failures on demand, a simulated clock, and contract suites.

Nothing here needs torch. The contract suites are plain classes of test functions: subclass one in a test module, give
the fixture it asks for, and an implementation of the seam is held to what `Proposer` and `Engine` promise.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from objectives.objective import Estimate, objectives_named
from search.atomic import write_json
from search.engines.engine import Engine, Finished, Job
from search.engines.local import run_job
from search.errors import ConfigError
from search.evaluate.evaluator import Closing, Evaluator, Prepared, Realised
from search.evaluate.gate import Gate
from search.evaluate.isolation import classify
from search.evaluate.ladder import Gain
from search.evaluate.phases import Phases
from search.propose.allocation import Allocator, Floats, Ints, divergence_of, menu_of
from search.propose.baselines import HonestRow
from search.propose.guide import Guide, Variant
from search.propose.proposer import Proposer, Request
from search.record import RunRecord
from search.space import Block, Dimension, Space
from search.spec import StudySpec
from search.trial import Candidate, Failure, FailureKind, Measurement

if TYPE_CHECKING:
    from search.study import Study

PRELOAD = ("search.testing",)
DIMENSIONS = ("stem", "neck", "head")
BLOCKS = ("body.m.0", "body.m.1")
OBJECTIVES = objectives_named(("map50_95", "latency_ms", "params_m"))
_SIZE = 64


def known_space(low: float = 0.0, high: float = 0.8, sizes: tuple[int, ...] = (640,), *, depth: bool = False) -> Space:
    """Three dimensions of one group each; with `depth`, two blocks that may go."""
    dimensions = tuple(Dimension(name, (name,), low, high) for name in DIMENSIONS)
    return Space(dimensions, sizes, blocks=tuple(map(Block, BLOCKS)) if depth else ())


@dataclass(frozen=True)
class KnownFrontEvaluator:
    """Figures in closed form: accuracy falls with the weighted square of the ratios, costs fall linearly.

    With equal weights the front is the set of equal ratios; `head` weighs more, so that the true front prunes it
    less: ratio proportional to 1 / weight wherever no bound is met (Lagrange).

    Args:
        sleep_s: real seconds per trial; `uneven`: the share that a trial's number adds to it or takes away, at most.
        seconds: what the trial says that it took.
        round_to: channels per step of the 64 of each group.
    """

    sleep_s: float = 0.0
    uneven: float = 0.0
    seconds: float = 60.0
    round_to: int = 1

    def slept_s(self, number: int) -> float:
        """Real seconds of a trial: spread evenly, whatever the count of trials (multiples of the golden ratio)."""
        return self.sleep_s * (1 + self.uneven * (2 * (0.618 * number % 1) - 1))

    def realise(self, candidate: Candidate) -> Realised:
        """See `Evaluator.realise`."""
        widths = {name: self._width(ratio) for name, ratio in candidate.ratios.items()}
        return Realised(f"{sorted(widths.items())}:{candidate.removed}:{candidate.imgsz}", widths)

    def evaluate(
        self, candidate: Candidate, number: int, seed: int, work_dir: Path, gate: Gate | None = None
    ) -> Measurement:
        """See `Evaluator.evaluate`. The score is the accuracy that is lost."""
        time.sleep(self.slept_s(number))
        realised = self.realise(candidate)
        shares = {name: 1 - w / _SIZE for name, w in realised.widths.items()}
        figures = known_figures(shares, candidate.imgsz, len(candidate.removed))
        score = 0.5 - figures["map50_95"].value
        screened = gate is not None and not gate.admits(score)
        if screened:
            del figures["map50_95"]
        seconds = {"score": 1.0} if screened else {"recover": self.seconds}
        return Measurement(
            figures, realised.widths, digest=realised.key, seconds=seconds, score=score, screened=screened
        )

    def _width(self, ratio: float) -> int:
        kept = math.ceil((1 - ratio) * _SIZE / self.round_to) * self.round_to
        return max(self.round_to, min(_SIZE, kept))


@dataclass(frozen=True)
class StallingEvaluator(KnownFrontEvaluator):
    """The known front, whose trials stand still from number `stalls_from` on, until somebody ends them."""

    stalls_from: int = 0

    def slept_s(self, number: int) -> float:
        """See `KnownFrontEvaluator.slept_s`."""
        return 3600.0 if number >= self.stalls_from else 0.0


def known_figures(shares: Mapping[str, float], imgsz: int = 640, removed: int = 0) -> dict[str, Estimate]:
    """Figures for the share of channels removed per dimension, and the number of removed blocks."""
    loss = sum((1 + index) * share**2 for index, share in enumerate(shares.values()))
    mean = sum(shares.values()) / len(shares)
    scale = (imgsz / 640) ** 2
    accuracy = 0.5 - 0.05 * loss - 0.1 * (1 - scale) - 0.02 * removed
    latency = 10.0 * (1 - 0.8 * mean) * scale * (1 - 0.05 * removed)
    return {
        "map50_95": Estimate(accuracy, accuracy - 0.002, accuracy + 0.002),
        "latency_ms": Estimate(latency, latency * 0.99, latency * 1.01),
        "params_m": Estimate.exact(3.0 * (1 - mean)),
    }


@dataclass(frozen=True)
class NotingEvaluator:
    """Writes `number pid` as a line of `log` when a trial begins, in one write; measures as the known front."""

    log: str
    sleep_s: float = 0.0

    def realise(self, candidate: Candidate) -> Realised:
        """See `Evaluator.realise`."""
        return KnownFrontEvaluator().realise(candidate)

    def evaluate(
        self, candidate: Candidate, number: int, seed: int, work_dir: Path, gate: Gate | None = None
    ) -> Measurement:
        """See `Evaluator.evaluate`."""
        handle = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(handle, f"{number} {os.getpid()}\n".encode())
        os.close(handle)
        return KnownFrontEvaluator(self.sleep_s).evaluate(candidate, number, seed, work_dir, gate)


@dataclass(frozen=True)
class FailingEvaluator:
    """Fails the trials whose number is in `failures`, in the way that is named there; measures the others.

    Ways: raise, nan, memory, exit (os._exit), signal (SIGSEGV), hang, babble (prints, then raises).
    """

    failures: Mapping[int, str]
    inner: KnownFrontEvaluator = KnownFrontEvaluator()

    def realise(self, candidate: Candidate) -> Realised:
        """See `Evaluator.realise`."""
        return self.inner.realise(candidate)

    def evaluate(
        self, candidate: Candidate, number: int, seed: int, work_dir: Path, gate: Gate | None = None
    ) -> Measurement:
        """See `Evaluator.evaluate`."""
        if number in self.failures:
            _fail(self.failures[number])
        return self.inner.evaluate(candidate, number, seed, work_dir, gate)


@dataclass(frozen=True)
class WitnessedEvaluator:
    """Leaves a file NUMBER-PID in `folder` for every time that a trial is begun, and `note.txt` in the trial's folder.

    Args:
        losses: number -> how often that trial kills the worker of a Ray engine, as a node that dies would. Not for
            processes of this machine, whose worker is the caller.
    """

    folder: Path
    inner: Evaluator = KnownFrontEvaluator()
    losses: Mapping[int, int] = field(default_factory=dict)

    def realise(self, candidate: Candidate) -> Realised:
        """See `Evaluator.realise`."""
        return self.inner.realise(candidate)

    def evaluate(
        self, candidate: Candidate, number: int, seed: int, work_dir: Path, gate: Gate | None = None
    ) -> Measurement:
        """See `Evaluator.evaluate`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{number}-{os.getpid()}").touch()
        if self.begun(number) <= self.losses.get(number, 0):
            os.kill(ancestors(os.getpid())[1], signal.SIGKILL)
            time.sleep(60)
        (work_dir / "note.txt").write_text(f"trial {number}")
        with Phases(work_dir)("recover"):
            return self.inner.evaluate(candidate, number, seed, work_dir, gate)

    def begun(self, number: int) -> int:
        """How often a trial was begun."""
        return len(list(self.folder.glob(f"{number}-*")))


def ancestors(pid: int) -> list[int]:
    """Process ids of the parent, its parent and so on; of a trial: the fork server, the worker, whoever started it."""
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
    """The unpruned model of the known front."""
    return Measurement(known_figures(dict.fromkeys(DIMENSIONS, 0.0)), dict.fromkeys(DIMENSIONS, _SIZE))


@dataclass(frozen=True)
class KnownClosing:
    """See `Closing`: rows in closed form, and latencies with a tenth of a trial's error.

    Args:
        failures: kinds of rows, and "together", that fail; `cut`: at which the power is cut.
        seconds: what a row that is not trained says that it took; `trained_s`: what one that is says.
        shift: factor by which the measurement together finds the known latencies.
    """

    failures: tuple[str, ...] = ()
    cut: str = ""
    seconds: float = 20.0
    trained_s: float = 60.0
    shift: float = 1.0

    def honest(self, row: HonestRow, seed: int, work_dir: Path) -> Measurement:
        """See `Closing.honest`."""
        self._disturb(row.kind)
        if row.candidate is not None:
            return replace(known_measurement(row.candidate), seconds={"recover": self.trained_s})
        figures = known_figures(dict.fromkeys(DIMENSIONS, row.ratio or 0.0), row.imgsz or 640)
        return Measurement(figures, seconds={"accuracy": self.trained_s if row.is_trained else self.seconds})

    def together(self, candidates: Mapping[int, Candidate], seed: int, work_dir: Path) -> Measurement:
        """See `Closing.together`."""
        self._disturb("together")
        timing = {str(number): {"latency_ms": self._latency(one), "flags": []} for number, one in candidates.items()}
        return Measurement({}, seconds={"latency": 4.0 * len(candidates)}, timing=timing)

    def _latency(self, candidate: Candidate) -> dict[str, float]:
        value = self.shift * known_measurement(candidate).figures["latency_ms"].value
        return {"value": value, "low": 0.999 * value, "high": 1.001 * value}

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
    closing: Closing | None = None

    def __call__(self, spec: StudySpec, record: RunRecord, say: Callable[[str], None] = lambda text: None) -> Prepared:
        say("measuring the base")
        low, high = spec.space.ratio
        groups = tuple({"name": name, "size": _SIZE, "stage": name, "frozen": None, "tie": None} for name in DIMENSIONS)
        base = known_base()
        record.write_base(base)
        record.write_groups(groups)
        write_json(record.base_dir / "whatif.json", known_what_if(low, high, spec.sizes), durable=False)
        space = known_space(low, high, spec.sizes, depth=spec.space.depth)
        return Prepared(self.evaluator, space, base, groups, (), PRELOAD, self.guide, self.closing)


def known_what_if(low: float, high: float, sizes: Sequence[int]) -> dict[str, Any]:
    """base/whatif.json of the known front: 15,625 parameters a channel, as `known_figures` has it; MACs the square."""
    groups, params = list(DIMENSIONS), round(3e6 / len(DIMENSIONS) / _SIZE)
    columns = [{"of": []}, *({"of": [[number, 1]]} for number in range(len(groups)))]
    terms = [[params, 0, number + 1] for number in range(len(groups))]
    macs = {str(size): [[size, number + 1, number + 1] for number in range(len(groups))] for size in sizes}
    rule = [{"groups": [name], "steps": [1], "n": _SIZE, "step": 1, "minimum": 1} for name in groups]
    return {
        "format": 1,
        "dimensions": [{"name": name, "groups": [name], "low": low, "high": high} for name in groups],
        "blocks": [],
        "sizes": list(sizes),
        "rule": rule,
        "cost": {"groups": groups, "columns": columns, "params": terms, "macs": macs, "layers": {}, "blocks": []},
    }


@dataclass
class SimulatedClock:
    """Time that passes only when told, from `begin` on."""

    seconds: float = 0.0
    begin: datetime = datetime(2025, 3, 1, 22, 0)

    def now(self) -> float:
        """See `Clock.now`."""
        return self.seconds

    def local(self) -> datetime:
        """See `Clock.local`."""
        return self.begin + timedelta(seconds=self.seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds


@dataclass
class InlineEngine:
    """Evaluates in the calling process, at `poll`, advancing a simulated clock by what each trial says it took.

    Args:
        cut_at: raises `Cut` instead of evaluating this trial, as if the power had gone.
    """

    evaluator: Evaluator
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    workers: int = 1
    cut_at: int | None = None
    _jobs: list[Job] = field(default_factory=list)

    def submit(self, job: Job) -> None:
        """See `Engine.submit`."""
        self._jobs.append(job)

    def poll(self, wait_s: float) -> tuple[Finished, ...]:
        """See `Engine.poll`."""
        if not self._jobs:
            return ()
        job = self._jobs.pop(0)
        if job.number == self.cut_at:
            raise Cut(f"at trial {job.number}")
        try:
            measured = run_job(self.evaluator, job)
        except Exception as error:
            return (Finished(job.number, classify(error)),)
        self.clock.advance(sum(measured.seconds.values()))
        return (Finished(job.number, measured),)

    def cancel(self) -> None:
        """See `Engine.cancel`."""
        self._jobs.clear()


class Cut(BaseException):
    """A power cut; no handler of the code under test may catch it."""


class ProposerContract:
    """What every Proposer promises. Give a fixture `opened`: a function that opens the same storage again."""

    def test_numbers_count_from_zero(self, opened: Callable[[], Proposer]) -> None:
        assert [number for number, _ in _drive(opened(), 12)] == list(range(12))

    def test_candidates_are_in_the_space(self, opened: Callable[[], Proposer]) -> None:
        for _, candidate in _drive(opened(), 12):
            assert all(0.0 <= candidate.ratios[name] <= 0.8 for name in DIMENSIONS)

    def test_pending_comes_back_under_its_number(self, opened: Callable[[], Proposer]) -> None:
        first = opened()
        _drive(first, 3)
        asked = first.ask()
        first.close()
        second = opened()
        history = second.history()
        assert [(p.number, p.candidate) for p in history.pending] == [(asked.number, asked.candidate)]
        assert history.told == frozenset(range(3))
        second.tell(asked.number, known_measurement(asked.candidate))
        assert second.ask().number == asked.number + 1

    def test_telling_twice_changes_nothing(self, opened: Callable[[], Proposer]) -> None:
        proposer = opened()
        asked = proposer.ask()
        proposer.tell(asked.number, known_measurement(asked.candidate))
        proposer.tell(asked.number, Failure(FailureKind.ERROR, "late"))
        assert proposer.history().told == {asked.number}

    def test_a_request_goes_first_and_only_once(self, opened: Callable[[], Proposer]) -> None:
        proposer = opened()
        _drive(proposer, 2)
        wish = Request("one", Candidate(dict.fromkeys(DIMENSIONS, 0.25)))
        proposer.enqueue(wish)
        proposer.enqueue(wish)
        asked = proposer.ask()
        assert (asked.number, asked.candidate, asked.source) == (2, wish.candidate, "user")
        proposer.tell(asked.number, known_measurement(asked.candidate))
        proposer.close()
        again = opened()
        again.enqueue(wish)
        assert again.ask().candidate != wish.candidate

    def test_a_request_outside_the_space_is_refused(self, opened: Callable[[], Proposer]) -> None:
        refused = 0
        for ratios in (dict.fromkeys(DIMENSIONS, 0.95), {"stem": 0.1}):
            try:
                opened().enqueue(Request("far", Candidate(ratios)))
            except ConfigError:
                refused += 1
        assert refused == 2

    def test_a_failed_trial_is_told(self, opened: Callable[[], Proposer]) -> None:
        proposer = opened()
        asked = proposer.ask()
        proposer.tell(asked.number, Failure(FailureKind.NOT_FINITE, "nan"))
        assert proposer.history() == opened().history()
        assert proposer.ask().number == 1


class EngineContract:
    """What every Engine promises. Give a fixture `make`: (evaluator, workers, clock) -> Engine."""

    def test_a_result_is_on_disk_when_reported(self, make: Callable[[Evaluator, int], Engine], tmp_path: Path) -> None:
        engine = make(KnownFrontEvaluator(), 1)
        job = job_in(tmp_path, 0)
        engine.submit(job)
        (finished,) = drain(engine, 1)
        assert finished.outcome == known_measurement(job.candidate)
        assert (job.work_dir / "result.json").is_file()
        engine.cancel()

    def test_every_job_is_reported_once(self, make: Callable[[Evaluator, int], Engine], tmp_path: Path) -> None:
        engine = make(KnownFrontEvaluator(), 2)
        for number in range(2):
            engine.submit(job_in(tmp_path, number))
        assert sorted(one.number for one in drain(engine, 2)) == [0, 1]
        assert engine.poll(0.0) == ()
        engine.cancel()

    def test_an_exception_is_a_failure(self, make: Callable[[Evaluator, int], Engine], tmp_path: Path) -> None:
        engine = make(FailingEvaluator({0: "raise", 1: "nan", 2: "memory"}), 1)
        kinds = []
        for number in range(3):
            engine.submit(job_in(tmp_path, number))
            (finished,) = drain(engine, 1)
            assert isinstance(finished.outcome, Failure)
            kinds.append(finished.outcome.kind)
        assert kinds == [FailureKind.ERROR, FailureKind.NOT_FINITE, FailureKind.OUT_OF_MEMORY]
        engine.cancel()

    def test_cancelled_jobs_are_not_reported(self, make: Callable[[Evaluator, int], Engine], tmp_path: Path) -> None:
        engine = make(KnownFrontEvaluator(sleep_s=0.5), 1)
        engine.submit(job_in(tmp_path, 0))
        engine.cancel()
        engine.cancel()
        assert engine.poll(0.0) == ()


class SearchContract:
    """What a search leaves, whichever engine ran its trials.

    Give fixtures `keys`: the overrides that name the engine, and `make_study` and `workplace` of tests/search/conftest.
    """

    def test_files_trials_and_front_are_those_of_a_sequential_search(
        self, keys: Mapping[str, Any], make_study: Callable[..., Study], workplace: Path
    ) -> None:
        from search.study import Parts, Study

        expected = make_study(name="inline", **{"search.trials": 5}).search()
        seen = WitnessedEvaluator(workplace / "begun")
        for trials in (3, 5):  # the second goes on with the first
            parts = Parts(prepare=KnownFront(seen))
            study = Study("study.yaml", parts=parts, **keys, **{"search.trials": trials}).search()
        assert study.trials() == expected.trials()
        assert [trial.number for trial in study.front()] == [trial.number for trial in expected.front()]
        found, wanted = study.snapshot(), expected.snapshot()
        assert {key: found[key] for key in _OF_ANY_ENGINE} == {key: wanted[key] for key in _OF_ANY_ENGINE}
        assert files_of(study.record.path) == files_of(expected.record.path) | {
            f"trials/{number:04d}/{name}" for number in range(5) for name in ("note.txt", "progress.json", "train.log")
        }
        assert [seen.begun(number) for number in range(5)] == [1] * 5


_OF_ANY_ENGINE = ("state", "objectives", "trials", "front", "hypervolume", "picks", "verdict", "groups", "base")


def files_of(run: Path) -> set[str]:
    """Paths of a run's files, relative to it; of the database only its name, whatever SQLite has beside it."""
    found = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith("study.db-")}


def job_in(folder: Path, number: int, timeout_s: float = 60.0) -> Job:
    """A job with its folder made, as the loop does."""
    work_dir = folder / f"{number:04d}"
    work_dir.mkdir()
    candidate = Candidate({name: 0.1 * (number + 1) for name in DIMENSIONS})
    return Job(number, candidate, seed=number, work_dir=work_dir, timeout_s=timeout_s)


def drain(engine: Engine, count: int, limit_s: float = 60.0) -> list[Finished]:
    """Poll until `count` jobs ended."""
    ended: list[Finished] = []
    deadline = time.monotonic() + limit_s
    while len(ended) < count and time.monotonic() < deadline:
        ended += engine.poll(0.2)
    return ended


def known_measurement(candidate: Candidate) -> Measurement:
    """What `KnownFrontEvaluator` measures."""
    return KnownFrontEvaluator().evaluate(candidate, 0, 0, Path())


def _drive(proposer: Proposer, count: int) -> Sequence[tuple[int, Candidate]]:
    asked = []
    for _ in range(count):
        proposal = proposer.ask()
        proposer.tell(proposal.number, known_measurement(proposal.candidate))
        asked.append((proposal.number, proposal.candidate))
    return asked


@dataclass(frozen=True)
class KnownCost:
    """Latency of the known front as a share of the base's, from widths."""

    def __call__(self, widths: Ints, removed: tuple[str, ...]) -> Floats:
        """See `CostOf`."""
        mean = (1 - widths / _SIZE).mean(axis=1)
        return np.asarray((1 - 0.8 * mean) * (1 - 0.05 * len(removed)))


def known_guide(seed: int = 0, errors: Sequence[float] = (1.0, 1.0, 1.0), targets: tuple[float, ...] = ()) -> Guide:
    """A guide of the known front. `errors` multiply the true prices of the dimensions: what sensitivity gets wrong."""
    from pruning.sensitivity import Curve  # brings torch with it

    space = known_space()
    shares = np.arange(0, 52) / _SIZE
    menus = []
    for number, (name, error) in enumerate(zip(DIMENSIONS, errors, strict=True)):
        prices = error * 0.1 * (1 + number) * shares**2
        curve = Curve.through(list(zip(shares[1:].tolist(), divergence_of(prices[1:]).tolist(), strict=True)))
        widths = [[round((1 - share) * _SIZE)] for share in shares.tolist()]
        menus.append(menu_of(name, [number], widths, shares.tolist(), curve, name))
    allocator = Allocator(space, tuple(menus), (), np.full(len(DIMENSIONS), _SIZE), KnownCost())
    return Guide(allocator, Gain("map50_95", 0.5), (Variant(640),), targets, seed)
