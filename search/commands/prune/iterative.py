"""`paretoprune prune ... steps=10 max_drop=0.05`: prune, fine-tune and validate in steps; resumable.

Every step is measured as saved, in half precision, and the next one starts from that file. So the same command resumes
a stopped run as if it had not been stopped. The folder holds

    steps.json     the settings and one row per step: the record
    steps.csv      the same rows for a spreadsheet
    steps/0003.pt  every step, including the rejected one
    pruned.pt      the last step within the drop; written last, so its presence means that the run is complete
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from objectives.image_size import written
from search.config.inputs.user_code import refuse_own
from search.config.overrides import (
    Count,
    Counts,
    Data,
    Drop,
    File,
    InputSize,
    Names,
    Order,
    Place,
    Seed,
    Share,
    Word,
    one_of,
    recover_spec,
    trained_size,
)
from search.config.sections import RecoverSpec
from search.errors import ConfigError, Interrupted
from search.evaluate.timing.progress import Phases, TrialProgress, discard_progress, read_progress
from search.results.snapshot_reader import duration
from search.run_folder.atomic import csv_text, write_atomic
from search.workers.run_isolated import run_isolated

_DEFAULTS: Mapping[str, Any] = {"epochs": 1, "spend": "equal", "fraction": 1.0}
"""Of `recover`: whoever prunes by hand has said how much each step is fine-tuned."""
_COLUMNS = ("step", "ratio", "figure", "metric", "drop", "accepted", "params_m", "macs_g", "seconds")

Say = Callable[[str], None]


def _nothing(text: str) -> None:
    """Print nothing."""


class IterativePruning(Order):
    """Settings of the run: target ratio, number of steps, and the fall of the metric at which to stop."""

    example = "paretoprune prune model=best.pt data=data.yaml ratio=0.5 steps=10 max_drop=0.05"
    lacking = "{keys} needed to prune in steps"

    model: File
    data: Data
    ratio: Share
    steps: Count = 10
    max_drop: Drop | None = None
    imgsz: InputSize = Field(default_factory=trained_size)
    round_to: Count = 8
    importance: Word = "l2"
    ranking: Annotated[Literal["local", "global"], one_of("local", "global")] = "local"
    removed: Names = ()
    heads: Counts = Field(default_factory=dict)
    device: Word = "auto"
    seed: Seed = 0
    recover: RecoverSpec = RecoverSpec.model_validate(_DEFAULTS)
    out: Place | None = None

    @classmethod
    def from_keys(cls, keys: Mapping[str, Any], **given: Any) -> Self:
        """Parse keys as `Order.from_keys`; `recover.epochs=2` and the like configure the fine-tune after each step."""
        refuse_own(
            keys.get("model"), "pruning in steps", "paretoprune prune model=module.py:function ratio=0.3 imgsz=64"
        )
        own = {key: value for key, value in keys.items() if not key.startswith("recover.")}
        order = super().from_keys(own, recover=RecoverSpec(), **given)
        if not order.ratio and not order.removed and not order.heads:
            raise ConfigError("ratio=0 in steps removes nothing", where="ratio=", expected="for example ratio=0.5")
        recover = {key.removeprefix("recover."): value for key, value in keys.items() if key not in own}
        spec = recover_spec({**_DEFAULTS, **recover}, cls.example, "recover")
        return order.model_copy(update={"recover": spec})

    @property
    def folder(self) -> Path:
        """Output folder."""
        return self.out or Path(f"{self.model.stem}-pruned-{self.ratio:g}-in-{self.steps}")

    def asked(self) -> dict[str, Any]:
        """Settings that must be equal to resume a run, as plain data."""
        plain = self.model_dump(mode="json", exclude={"out"})
        return plain | {key: str(Path(plain[key]).resolve()) for key in ("model", "data")}


def run_iterative(order: IterativePruning, tell: Say = _nothing, show: Say = _nothing) -> dict[str, Any]:
    """Run all steps, or the remaining ones of a stopped run; return the content of steps.json and the paths written.

    Args:
        tell: called with a line for every finished step.
        show: called a few times a second with the current activity and the time left.

    Raises:
        ConfigError: the folder holds another run, or a complete one. Interrupted: Ctrl-C; the same command resumes.
        PreparationFailed: with the exit code of the cause.
    """
    folder = order.folder
    before = _earlier(order)
    begun = {"asked": order.asked(), "steps": before.get("steps", [])}
    try:
        _write(folder, begun)
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror}", where="out=") from error
    follower = _Follower(order, tell, show)
    try:
        run_isolated(prune_in_child, (order,), folder, follower.look)
    except KeyboardInterrupt:
        done = len(_read(folder)["steps"]) - 1
        raise Interrupted(
            f"stopped; {max(done, 0)} of {order.steps} steps are kept in {folder}",
            next_command="run the same command to continue",
        ) from None
    finally:
        discard_progress(folder)
    follower.look()
    (folder / "prepare.log").unlink(missing_ok=True)
    found = _read(folder)
    origin = {"base": str(order.model), "data": str(order.data)}
    return {**found, **origin, "model": str(folder / "pruned.pt"), "table": str(folder / "steps.csv")}


def _earlier(order: IterativePruning) -> dict[str, Any]:
    """Return the record of a stopped run. Raises ConfigError for another run."""
    folder = order.folder
    if (folder / "pruned.pt").exists():
        raise ConfigError(f"{folder / 'pruned.pt'} exists already", expected="a new folder: out=FOLDER")
    found = _read(folder)
    asked = order.asked()
    others = [key for key, value in asked.items() if found and found["asked"].get(key) != value]
    if others:
        key = others[0]
        raise ConfigError(
            f"{folder} holds the steps of another run: {key} was {found['asked'].get(key)!r}, now {asked[key]!r}",
            where="out=",
            expected="the same keys to continue it, or a new folder: out=FOLDER",
        )
    return found


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "steps.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return found
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", expected="a new folder: out=FOLDER") from error


def _write(folder: Path, content: Mapping[str, Any]) -> None:
    write_atomic(folder / "steps.json", json.dumps(content, indent=1) + "\n")
    table = csv_text(_COLUMNS, ([row.get(key) for key in _COLUMNS] for row in content["steps"]))
    write_atomic(folder / "steps.csv", table, durable=False)


class _Follower:
    """Prints a line for every finished step, and the progress of the current one."""

    def __init__(self, order: IterativePruning, tell: Say, show: Say) -> None:
        self.order, self.tell, self.show = order, tell, show
        self.last = order.steps + bool(order.removed or order.heads)
        self.said, self.since = 0, time.monotonic()

    def look(self) -> None:
        """Poll the progress; called a few times a second."""
        rows = _read(self.order.folder)["steps"]
        for row in rows[self.said :]:
            self.tell(step_line(row, rows, self.last))
            self.since = time.monotonic()
        self.said = len(rows)
        progress = read_progress(self.order.folder)
        if progress.phase:
            self.show(_progress_line(progress, rows, self.last, time.monotonic() - self.since))


def step_line(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], last: int) -> str:
    """Format `step 3/10: map50_95 0.5120 (-0.0040), 2.100 M, 5.100 GMACs, 41 s; 5 min left`."""
    refused = "" if row["accepted"] else ", beyond max_drop: refused"
    left = _left_s(rows, last) if row["accepted"] and row["step"] < last else None
    rest = f"; {duration(left)} left" if left is not None else ""
    change = f"{row['figure']} {row['metric']:.4f} ({0.0 - row['drop']:+.4f})"
    cost = f"{row['params_m']:.3f} M, {row['macs_g']:.3f} GMACs"
    return f"step {row['step']}/{last}: {change}, {cost}, {duration(row['seconds'])}{refused}{rest}"


def _left_s(rows: Sequence[Mapping[str, Any]], last: int) -> float | None:
    """Estimate the seconds of the remaining steps from the mean of the finished ones; None before the first."""
    paces = [row["seconds"] for row in rows if row["step"] > 0]
    return (last - rows[-1]["step"]) * sum(paces) / len(paces) if paces else None


def _progress_line(progress: TrialProgress, rows: Sequence[Mapping[str, Any]], last: int, passed_s: float) -> str:
    left = _left_s(rows, last)
    if left is None:
        return progress.phase
    return f"{progress.phase}, {duration(max(left - passed_s, 0.0))} left"


def prune_in_child(order: IterativePruning) -> None:
    """Run `run_iterative` in a child process."""
    from pruning.checkpoints.checkpoint import load_model
    from search.config.inputs.dataset import check_images
    from search.evaluate.pruning_evaluator import task_of
    from search.evaluate.user_task import refuse_plain
    from search.prepare.preflight import check_data

    refuse_plain(order.model, "pruning in steps")
    rows = _read(order.folder)["steps"]
    base = load_model(order.model)
    check_images(check_data(base, order.data))
    work = _Work(order, rows, task_of(base))
    for step in work.steps(base):
        work.record(step)
    accepted = [row for row in work.rows if row["accepted"]]
    source = order.folder / "steps" / f"{accepted[-1]['step']:04d}.pt" if len(accepted) > 1 else order.model
    part = order.folder / ".pruned.part.pt"
    shutil.copyfile(source, part)
    part.replace(order.folder / "pruned.pt")


class _Work:
    """The steps in the child: prunes, fine-tunes, saves, reloads, validates, records."""

    def __init__(self, order: IterativePruning, rows: list[dict[str, Any]], task: str) -> None:
        from objectives.objective import MAIN_FIGURES
        from search.evaluate import pruning_evaluator

        self.order, self.rows, self.figure = order, rows, MAIN_FIGURES[task]
        self.device = pruning_evaluator.resolve_device(order.device)
        self.phase = Phases(order.folder)
        self.began = time.perf_counter()

    def steps(self, base: Any) -> Any:
        """Yield the steps of `pruning.iterative` after the recorded ones."""
        from pruning.checkpoints.checkpoint import load_model
        from pruning.iterative import PruningSchedule, steps_of
        from search.evaluate.workload import example_input

        order = self.order
        schedule = PruningSchedule(
            order.ratio, order.steps, order.max_drop, order.importance,
            order.ranking, order.round_to, order.removed, order.heads,
        )  # fmt: skip
        done = [self._step(row, base if row["step"] == 0 else None) for row in self.rows]
        if done and done[-1].step:
            done[-1] = self._step(self.rows[-1], load_model(self._path(done[-1].step)))
        if done and not done[-1].accepted:
            return iter(())
        return steps_of(base, example_input(base, order.imgsz), schedule, self.recover, self.measure, done)

    @staticmethod
    def _step(row: Mapping[str, Any], model: Any) -> Any:
        from pruning.iterative import Step

        cost = round(row["params_m"] * 1e6), round(row["macs_g"] * 1e9)
        return Step(row["step"], row["ratio"], *cost, row["metric"], model, None, row["accepted"])

    def _path(self, number: int) -> Path:
        return self.order.folder / "steps" / f"{number:04d}.pt"

    def recover(self, model: Any, origin: Any) -> Any:
        """Repair the model; return it as saved and reloaded."""
        from pruning.checkpoints.checkpoint import load_model, save_model
        from pruning.recovery.repair import repair
        from search.evaluate import pruning_evaluator

        order, number = self.order, len(self.rows)
        with self.phase(f"step {number}: recover"):
            how = pruning_evaluator.recovery_of(order.recover, imgsz=order.imgsz, device=self.device, seed=order.seed)
            work, phase = order.folder / "recover", self.phase
            model = repair(
                model, order.data, how, origin=origin, base=order.model, work_dir=work,
                on_progress=phase.advance, beat=phase.beat,
            ).model  # fmt: skip
            shutil.rmtree(work, ignore_errors=True)
        save_model(model, self._path(number), paretoprune_step=number, paretoprune_imgsz=written(order.imgsz))
        return load_model(self._path(number))

    def measure(self, model: Any) -> float:
        """Return the task's main figure on the validation split."""
        from objectives.accuracy.measure import measure_accuracy

        order, folder = self.order, self.order.folder / "accuracy"
        with self.phase(f"step {len(self.rows)}: validate"):
            found = measure_accuracy(
                model, order.data, imgsz=order.imgsz, device=self.device, work_dir=folder, resamples=2, seed=order.seed
            )
        shutil.rmtree(folder, ignore_errors=True)
        return found.figures[self.figure].value

    def record(self, step: Any) -> None:
        """Append one row to the files on disk."""
        base = self.rows[0]["metric"] if self.rows else step.metric
        self.rows.append(
            {
                "step": step.step,
                "ratio": step.ratio,
                "figure": self.figure,
                "metric": step.metric,
                "drop": base - step.metric,
                "accepted": step.accepted,
                "params_m": step.params / 1e6,
                "macs_g": step.macs / 1e9,
                "seconds": time.perf_counter() - self.began,
                "plan": None if step.plan is None else json.loads(step.plan.to_json()),
            }
        )
        self.began = time.perf_counter()
        _write(self.order.folder, {"asked": self.order.asked(), "steps": self.rows})
