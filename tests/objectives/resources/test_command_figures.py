"""Further figures of a user's program: read from its JSON, and compared with the base's calls around them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectives.latency.protocol import compare
from objectives.resources.command_figures import further_figure
from objectives.runtimes.command_runner import CommandRunner, Reading, reading_of
from tests.objectives.runtimes.test_command_runner import program

VALUES = st.floats(0.1, 1000)


def readings(name: str, *values: float, at: float = 0.0) -> list[Reading]:
    return [Reading((1.0,), {name: value}, at + 2 * place) for place, value in enumerate(values)]


def test_numbers_beside_the_milliseconds_are_kept_and_nothing_else() -> None:
    said = '{"latency_ms": [5.1, 5.2], "memory_mb": 41, "board": "pi5", "ok": true, "temperature_c": 51.5, "nan": NaN}'
    found = reading_of(f"warming up\n{said}\n", 3.0)
    assert found == Reading((5.1, 5.2), {"memory_mb": 41.0, "temperature_c": 51.5}, 3.0)
    assert reading_of("5.5").figures == {}


@given(VALUES, VALUES, st.floats(0.01, 10))
def test_a_drift_of_the_board_cancels_in_times_and_energies(ours: float, theirs: float, pace: float) -> None:
    """The base is called before and after; between these the board becomes slower by a constant factor."""
    factors = [math.exp(pace * place / 10) for place in range(9)]
    base = [Reading((1.0,), {"e2e_ms": theirs * factors[place]}, place) for place in range(0, 9, 2)]
    candidate = [Reading((1.0,), {"e2e_ms": ours * factors[place]}, place) for place in range(1, 9, 2)]
    found = further_figure("e2e_ms", candidate, base)
    assert found is not None and found.value == pytest.approx(ours / theirs)


def test_memory_and_own_figures_are_themselves() -> None:
    found = further_figure("temperature_c", readings("temperature_c", 50.0, 52.0, 54.0), [])
    assert found is not None and found.value == 52.0 and found.low < 50 and found.high > 54
    alone = further_figure("memory_mb", readings("memory_mb", 41.0), readings("memory_mb", 99.0))
    assert alone is not None and alone.is_exact and alone.value == 41.0


@pytest.mark.parametrize("name", ["e2e_ms", "temperature_c"])
def test_a_figure_that_some_call_did_not_say_is_none(name: str) -> None:
    whole, gap = readings(name, 1.0, 2.0, at=1.0), [*readings(name, 1.0), Reading((1.0,), {}, 9.0)]
    assert further_figure(name, gap, whole) is None
    assert further_figure(name, [], whole) is None
    assert (further_figure(name, whole, gap) is None) == (name == "e2e_ms")
    assert further_figure("energy_mj", readings("energy_mj", 0.0), readings("energy_mj", 1.0)) is None


def test_a_real_program_is_asked_in_turns(tmp_path: Path) -> None:
    body = (
        "size = os.path.getsize(sys.argv[1])\n"
        "print(json.dumps({'latency_ms': [size / 10], 'e2e_ms': size / 10 + 3, 'memory_mb': 20 + size}))"
    )
    runtime, sides = f"command:{program(tmp_path, body)}", []
    for name, size in (("small", 20), ("base", 50)):
        (tmp_path / name).write_bytes(b"x" * size)
        sides.append(CommandRunner(tmp_path / name, runtime=runtime, imgsz=64, threads=1, batch=1))
    assert compare(sides[0], sides[1], cap_s=0.1).ratio.value == pytest.approx(0.4)
    ours, theirs = (side.readings for side in sides)
    e2e, memory = further_figure("e2e_ms", ours, theirs), further_figure("memory_mb", ours, theirs)
    assert e2e is not None and e2e.value == pytest.approx(5 / 8)
    assert memory is not None and memory.value == 40
    assert len(theirs) > len(ours) > 0 and sorted(one.at for one in ours) == [one.at for one in ours]
