"""End-to-end latency: the whole pass around a network, on a simulated clock and on a real one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from objectives.errors import LatencyError
from objectives.latency.protocol import compare, compare_many
from objectives.resources.end_to_end import EndToEnd, View, end_to_end, typical
from objectives.resources.pipeline import Pipeline, raw_outputs
from objectives.runtimes.open import open_side
from tests.objectives.doubles import looking, network
from tests.objectives.fakes import FakeRunner, SimulatedClock

IMGSZ = 64


@dataclass
class Network:
    """A network of a given time, that answers whatever it is given."""

    clock: SimulatedClock
    seconds: float
    seen: list[Any] = field(default_factory=list)

    def run(self) -> None:
        self.clock.now += self.seconds

    def outputs(self, image: Any) -> list[Any]:
        self.seen.append(image)
        self.clock.now += self.seconds
        return [np.full((1, 6, 84), np.nan, np.float32)]

    def describe(self) -> Mapping[str, str | int]:
        return {"runtime": "fake"}


@dataclass
class Around:
    """Pre- and post-processing of given times; what is post-processed is looked at."""

    clock: SimulatedClock
    before_s: float
    after_s: float
    boxes: list[float] = field(default_factory=list)

    def input_of(self, pictures: Any) -> Any:
        self.clock.now += self.before_s
        return np.stack([np.full((3, 2, 2), picture.mean(), np.float32) for picture in pictures])

    def objects_of(self, outputs: Any, images: Any, pictures: Any) -> list[Any]:
        self.clock.now += self.after_s
        self.boxes.append(float(outputs[0].mean()))
        assert len(outputs[0]) == len(images) == len(pictures)
        return []


def view(number: int) -> View:
    return View(np.full((4, 4, 3), number, np.uint8), (torch.full((1, 6, 84), float(number)),))


@given(st.floats(0.001, 0.1), st.floats(0.001, 0.1), st.floats(0, 0.05), st.floats(0, 0.05))
def test_the_ratio_is_that_of_the_sums(slow: float, fast: float, before: float, after: float) -> None:
    clock = SimulatedClock()
    pipeline: Any = Around(clock, before, after)
    views = [view(number) for number in range(6)]
    base, candidate = (
        end_to_end([Network(clock, seconds)], pipeline, views, batch=1, threads=torch.get_num_threads())
        for seconds in (slow, fast)
    )
    found = compare(candidate, base, cap_s=5.0, clock=clock)
    assert found.ratio.value == pytest.approx((fast + before + after) / (slow + before + after))
    assert found.reference_ms == pytest.approx(1e3 * (slow + before + after)), "milliseconds of the base, end to end"


@pytest.mark.parametrize("seconds", [0.001, 0.7, 5.0])
def test_every_picture_is_used_equally_often_whatever_the_cap(seconds: float) -> None:
    """So the figure of a slow network is not that of the few pictures for which there was time."""
    clock = SimulatedClock()
    pipeline: Any = Around(clock, 0.001, 0.001)
    views = [view(number) for number in range(6)]
    sides = [end_to_end([Network(clock, seconds)], pipeline, views, batch=1, threads=1) for _ in range(3)]
    timed = compare_many(sides[1:], sides[0], cap_s=1.0, clock=clock, whole_turns=True)
    assert all(one.rounds % 6 == 0 for one in timed) and timed[0].rounds == (12 if seconds < 0.01 else 6)
    cut = compare_many(sides[1:], sides[0], cap_s=1.0, clock=clock)
    assert seconds < 0.5 or cut[0].rounds < 6, "else the cap cut nothing off"


def test_the_boxes_are_those_of_the_unpruned_network_and_the_pictures_take_turns() -> None:
    clock = SimulatedClock()
    pipeline: Any = Around(clock, 0.001, 0.001)
    networks = [Network(clock, 0.01) for _ in range(2)]
    side = end_to_end(networks, pipeline, [view(number) for number in range(4)], batch=3, threads=1)
    assert len(side) == 4
    for runner in side:
        runner.run()
    assert pipeline.boxes == [0.0, 1.0, 2.0, 3.0], "what the network answers is not looked at"
    assert [image.mean() for one in networks for image in one.seen] == [0.0, 2.0, 1.0, 3.0]
    assert all(image.shape[0] == 3 for one in networks for image in one.seen)


def test_a_runtime_without_outputs_is_refused() -> None:
    class Blind:
        def run(self) -> None: ...

        def describe(self) -> Mapping[str, str | int]:
            return {}

    pipeline: Any = Around(SimulatedClock(), 0, 0)
    with pytest.raises(LatencyError, match="Blind gives no outputs"):
        EndToEnd(Blind(), pipeline, view(0), batch=1, threads=1)


@given(st.lists(st.integers(0, 300), min_size=1, max_size=40), st.integers(1, 8))
def test_typical_pictures_are_at_the_quantiles_from_the_middle_outwards(counts: list[int], many: int) -> None:
    places = typical(counts, many)
    chosen = [counts[place] for place in places]
    at_quantiles = [sorted(counts)[int((place + 0.5) / many * len(counts))] for place in range(many)]
    assert sorted(chosen) == at_quantiles and chosen[0] == at_quantiles[(many - 1) // 2]
    assert {chosen[-1], chosen[-2] if many > 1 else chosen[-1]} == {at_quantiles[0], at_quantiles[-1]}
    if many == 1:
        assert sorted(counts)[len(counts) // 2] == chosen[0]
    if len(counts) >= many:
        assert len(set(places)) == many, "no picture twice"


class Noisy(FakeRunner):
    """A network whose time varies."""

    def outputs(self, image: Any) -> list[Any]:
        self.run()
        return []


def test_a_network_against_itself_is_1_within_its_interval() -> None:
    held = 0
    for seed in range(20):
        clock = SimulatedClock()
        pipeline: Any = Around(clock, 0.001, 0.002)
        views = [view(number) for number in range(6)]
        ours, base = (
            end_to_end([Noisy(clock, 0.004, noise=0.05, seed=2 * seed + one)], pipeline, views, batch=1, threads=1)
            for one in range(2)
        )
        found = compare(ours, base, cap_s=4.0, seed=seed, clock=clock)
        held += found.ratio.low <= 1 <= found.ratio.high
        assert found.ratio.value == pytest.approx(1, abs=0.03)
    assert held >= 18


@pytest.mark.parametrize("task", ["detect", "classify"])
def test_the_whole_pass_of_a_real_file_takes_no_less_than_its_network(task: str) -> None:
    torch.manual_seed(0)
    model = network(task).eval()
    model.task = task
    pipeline = Pipeline(model, imgsz=IMGSZ, conf=0.25, iou=0.7)
    picture = np.random.default_rng(0).integers(0, 255, (960, 1280, 3), np.uint8)
    outputs = next(raw_outputs(looking(task), [pipeline.input_of([picture])], exported=True))
    side = open_side(model, 1, runtime="onnxruntime", imgsz=IMGSZ)
    whole = end_to_end(side, pipeline, [View(picture, outputs)], batch=1, threads=1)
    found = compare(whole, side, cap_s=0.5)
    assert found.ratio.high > 1 and found.p50_ms > 0
