"""Energy by the counters of the kernel, in a folder like its own, and by a GPU's library that is not there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectives.errors import BackendMissing, CounterMissing, LatencyError
from objectives.latency.protocol import compare
from objectives.resources import energy
from objectives.resources.energy import EnergyRunner, NvmlCounter, RaplCounter, open_counter
from tests.objectives.fakes import SimulatedClock

RANGE = 262_143_328_850


def zone(root: Path, name: str, what: str, microjoules: int) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{what}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
    return folder


def test_packages_are_added_and_what_is_in_them_is_not_counted_twice(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", RANGE - 999_999)
    cores = zone(tmp_path, "intel-rapl:0:0", "core", 0)
    zone(tmp_path, "intel-rapl:2", "psys", 0)
    counter = RaplCounter(tmp_path)
    assert counter.joules() == 0
    (first / "energy_uj").write_text("7500000\n")
    (cores / "energy_uj").write_text("9000000000\n")
    assert counter.joules() == pytest.approx(2.5)
    (second / "energy_uj").write_text("500000\n")  # its counter has begun again
    assert counter.joules() == pytest.approx(2.5 + 1.5)


def test_a_machine_without_a_counter_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CounterMissing, match=r"no counter of a processor's package.*command:"):
        RaplCounter(tmp_path)
    (zone(tmp_path, "intel-rapl:0", "package-0", 1) / "energy_uj").unlink()
    (tmp_path / "intel-rapl:0" / "energy_uj").mkdir()  # root reads whatever the permissions say
    with pytest.raises(CounterMissing, match=r"energy_uj cannot be read: .*chmod a\+r") as caught:
        RaplCounter(tmp_path)
    assert isinstance(caught.value, BackendMissing) and "chmod" in caught.value.install


def test_a_gpu_is_asked_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    pynvml = pytest.importorskip("pynvml")
    monkeypatch.setattr(energy, "_uuid", lambda device: f"GPU-{device}")
    if _initialises(pynvml):
        pytest.skip("this machine has a driver")
    with pytest.raises(CounterMissing, match="NVML does not say the energy of GPU 0"):
        open_counter("0")
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda name: SimpleNamespace(name=name))
    used = {"GPU-1": 12_500}
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", lambda gpu: used[gpu.name])
    assert NvmlCounter("1").joules() == 12.5


def test_tensorrt_computes_on_a_gpu_whatever_the_usual_device_is() -> None:
    pynvml = pytest.importorskip("pynvml")
    if _initialises(pynvml):
        pytest.skip("this machine has a driver")
    with pytest.raises(CounterMissing, match="NVML does not say the energy of GPU 0"):
        open_counter("cpu", "tensorrt")


def _initialises(pynvml: Any) -> bool:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    return True


@dataclass
class Battery:
    """A counter that moves as a network runs, and as the machine idles."""

    clock: SimulatedClock
    idle_w: float = 0.0
    joules_used: float = 0.0
    block_s: float = 0.2

    def joules(self) -> float:
        return self.joules_used + self.idle_w * self.clock.now


@dataclass
class Hungry:
    """A network of a given time and energy."""

    battery: Battery
    seconds: float
    uses_j: float

    def run(self) -> None:
        self.battery.clock.now += self.seconds
        self.battery.joules_used += self.uses_j

    def describe(self) -> Mapping[str, str | int]:
        return {}


@given(st.floats(0.001, 0.5), st.floats(0.001, 0.5), st.floats(0, 30))
def test_the_ratio_is_one_of_energies_and_idling_counts(ours: float, theirs: float, idle_w: float) -> None:
    battery = Battery(SimulatedClock(), idle_w)
    candidate, base = Hungry(battery, 0.01, ours), Hungry(battery, 0.02, theirs)
    sides = [EnergyRunner(one, battery, battery.clock) for one in (candidate, base)]
    found = compare(sides[0], sides[1], cap_s=20.0, clock=battery.clock)
    whole = theirs + 0.02 * idle_w
    assert found.ratio.value == pytest.approx((ours + 0.01 * idle_w) / whole, rel=1e-6)
    assert found.reference_ms == pytest.approx(1e3 * whole, rel=1e-6), "millijoules of an inference"


def test_who_computes_beside_it_is_flagged() -> None:
    battery = Battery(SimulatedClock())
    sides = [EnergyRunner(Hungry(battery, 0.01, 2.0), battery, battery.clock) for _ in range(2)]
    quiet, loaded = (
        compare(
            sides[0], sides[1], cap_s=20.0, clock=battery.clock, waiting=lambda share=share: share * battery.clock.now
        )
        for share in (0.01, 0.4)
    )
    assert "foreign_load" in loaded.flags and "foreign_load" not in quiet.flags


def test_a_counter_that_stands_still_is_no_energy() -> None:
    battery = Battery(SimulatedClock())
    with pytest.raises(LatencyError, match="stood still over 20 inferences"):
        EnergyRunner(Hungry(battery, 0.01, 0.0), battery, battery.clock).times_s()
