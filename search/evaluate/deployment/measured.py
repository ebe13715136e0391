"""Measures what a network takes on the study's runtime: its latency, and the further costs that the study names.

e2e_ms       interleaved with the base, as latency is                     `objectives.resources.end_to_end`
memory_mb    the peak of a process of its own                             `objectives.resources.peak_memory`
energy_mj    interleaved with the base, by a counter instead of a clock   `objectives.resources.energy`
command:     whatever the program prints beside milliseconds              `objectives.resources.command_figures`
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from objectives.errors import CommandFailed
from objectives.image_size import Size, sides
from objectives.latency.protocol import Latency, compare
from objectives.objective import DEPLOYED
from objectives.resources.command_figures import RELATIVE, further_figure
from objectives.resources.end_to_end import EndToEnd, end_to_end
from objectives.resources.energy import EnergyRunner, open_counter
from objectives.resources.peak_memory import memory_mb
from objectives.runtimes.command_runner import CommandRunner, Reading
from objectives.runtimes.names import is_command
from objectives.runtimes.runner import Runner
from objectives.runtimes.torch_runner import input_channels
from search.config.sections import LatencySpec
from search.config.spec import StudySpec
from search.evaluate.deployment.pictures import pipeline_of, views_of
from search.evaluate.timing.latency import alone
from search.evaluate.timing.measurement_lock import MeasurementLock
from search.evaluate.timing.network_costs import Costs, Further

ENERGY_ROUNDS = 9
"""Rounds of three blocks for which a measurement of energy has time, however short `latency.seconds` is."""


@dataclass(frozen=True)
class Opened:
    """One network, opened on the study's runtime.

    Attributes:
        file: what the runtime has opened.
        origin: returns the unpruned network of the same outputs; its boxes are post-processed.
        imgsz: input size in pixels.
    """

    runners: tuple[Runner, ...]
    file: Path
    origin: Callable[[], Any]
    imgsz: Size


def measure_costs(
    spec: StudySpec,
    side: Opened,
    base: Opened,
    names: Sequence[str],
    pictures: Sequence[str],
    turns: MeasurementLock,
    *,
    seed: int,
) -> Costs:
    """Measure as `costs_of`, exclusively. Raises what it raises."""
    with alone(spec.latency, turns):
        return costs_of(spec, side, base, names, pictures, seed=seed)


def costs_of(
    spec: StudySpec, side: Opened, base: Opened, names: Sequence[str], pictures: Sequence[str], *, seed: int
) -> Costs:
    """Measure latency and the further costs `names` of one network against the base; the caller has the machine.

    Of a `command:` runtime all that its program prints and the study knows is returned.

    Args:
        pictures: files for end-to-end latency.

    Raises:
        LatencyError: something cannot be timed, or a program did not print one of `names`.
        CounterMissing: energy cannot be read.
    """
    latency = compare(side.runners, base.runners, cap_s=spec.latency.seconds, seed=seed)
    return Costs(latency, further_costs(spec, side, base, names, pictures, seed=seed))


def further_costs(
    spec: StudySpec, side: Opened, base: Opened, names: Sequence[str], pictures: Sequence[str], *, seed: int
) -> dict[str, Further]:
    """Measure as `costs_of`, after the latency, with which a program prints what else there is."""
    timing, found = spec.latency, dict[str, Further]()
    if is_command(timing.runtime):
        return _printed(side, base, (*DEPLOYED, *spec.figures), names)
    if "e2e_ms" in names:
        sides = end_to_end_sides(timing, (side, base), pictures)
        timed = compare(*sides, cap_s=timing.seconds, seed=seed, whole_turns=True)
        found["e2e_ms"] = Further.end_to_end(timed)
    if "memory_mb" in names:
        found["memory_mb"] = Further(_memory(timing, side))
    if "energy_mj" in names:
        found["energy_mj"] = Further.interleaved(_energy(timing, side, base, seed))
    return found


def end_to_end_sides(
    timing: LatencySpec, opened: Sequence[Opened], pictures: Sequence[str]
) -> list[tuple[EndToEnd, ...]]:
    """Return the whole passes of networks; those of one origin and size share their pictures' outputs."""
    views: dict[tuple[int, Size], Any] = {}
    found, origins = [], {id(one.origin): one.origin() for one in opened}
    for one in opened:
        origin = origins[id(one.origin)]
        key = (id(one.origin), one.imgsz)
        if key not in views:
            views[key] = views_of(timing, origin, pictures, one.imgsz)
        pipeline, settings = pipeline_of(timing, origin, one.imgsz), {"batch": timing.batch, "threads": timing.threads}
        found.append(end_to_end(one.runners, pipeline, views[key], **settings))
    return found


def _memory(timing: LatencySpec, side: Opened) -> Any:
    batch = 1 if timing.runtime == "ncnn" else timing.batch  # whose file takes any number of images in turn
    shape = (batch, input_channels(side.origin()), *sides(side.imgsz))
    return memory_mb(side.file, timing.runtime, shape, timing.threads)


def _energy(timing: LatencySpec, side: Opened, base: Opened, seed: int) -> Latency:
    counter = open_counter(timing.device, timing.runtime)
    cap_s = max(timing.seconds, 3 * ENERGY_ROUNDS * counter.block_s)
    sides = [[EnergyRunner(runner, counter) for runner in one.runners] for one in (side, base)]
    return compare(sides[0], sides[1], cap_s=cap_s, seed=seed)


def _printed(side: Opened, base: Opened, known: Iterable[str], required: Sequence[str]) -> dict[str, Further]:
    """Return the further figures that a program printed for both; raises CommandFailed if a required one is missing."""
    ours, theirs = _readings(side), _readings(base)
    found = {}
    for name in dict.fromkeys(known):
        figure = further_figure(name, ours, theirs)
        if figure is not None:
            relative = name in RELATIVE
            reference = statistics.median(one.figures[name] for one in theirs) if relative else 0.0
            found[name] = Further(figure, relative, reference, {"calls": len(ours)})
    missing = [name for name in required if name not in found]
    if missing:
        raise CommandFailed(
            "output",
            f"the program of latency.runtime printed no {missing[0]} in some call, which the study names; "
            f'expected JSON such as {{"latency_ms": [5.1], "{missing[0]}": 12.3}}',
        )
    return found


def _readings(opened: Opened) -> list[Reading]:
    return [one for runner in opened.runners if isinstance(runner, CommandRunner) for one in runner.readings]
