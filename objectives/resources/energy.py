"""Energy of an inference, by the counters of the processor or the GPU.

RAPL counts what each package of a processor has used, in microjoules, in steps of about a millisecond (Linux,
/sys/class/powercap; Intel, and AMD since Zen). NVML counts what a GPU has used, in millijoules
(`nvmlDeviceGetTotalEnergyConsumption`, Volta and newer). Both count the whole package: cores that idle, and
whoever else computes there. So a measurement is interleaved with the base, as latencies are, and nothing of ours runs
beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from objectives.errors import CounterMissing, LatencyError
from objectives.runtimes.runner import Conditions, Floats, Runner
from objectives.runtimes.torch_runner import torch_device

POWERCAP = Path("/sys/class/powercap")
_ELSEWHERE = "or measure it by a program of yours: latency.runtime command:, which prints energy_mj"


class Counter(Protocol):
    """Counts energy since any origin."""

    block_s: float
    """Seconds over which its steps are small."""

    def joules(self) -> float:
        """Return joules; never less than before."""
        ...


class RaplCounter:
    """The packages of the processors of this machine, together.

    Args:
        root: the folder of the powercap interface.

    Raises:
        CounterMissing: there is no package's counter, or it may not be read.
    """

    block_s = 0.2

    def __init__(self, root: Path = POWERCAP) -> None:
        self._zones = [zone for zone in sorted(root.glob("intel-rapl:*")) if _is_package(zone)]
        if not self._zones:
            raise CounterMissing(
                f"{root} has no counter of a processor's package (RAPL); virtual machines mostly have none",
                install=f"use a machine that has one, {_ELSEWHERE}",
            )
        try:
            self._ranges = [_number(zone / "max_energy_range_uj") for zone in self._zones]
            self._last = [_number(zone / "energy_uj") for zone in self._zones]
        except OSError as fault:
            raise CounterMissing(
                f"{fault.filename} cannot be read: {fault.strerror}",
                install=f"sudo chmod a+r {root}/intel-rapl:*/energy_uj, {_ELSEWHERE}",
            ) from fault
        self._total = 0

    def joules(self) -> float:
        for place, zone in enumerate(self._zones):
            now = _number(zone / "energy_uj")
            self._total += (now - self._last[place]) % (self._ranges[place] + 1)  # it begins again at its end
            self._last[place] = now
        return self._total / 1e6


def _is_package(zone: Path) -> bool:
    """A zone of a package is `intel-rapl:0`; the cores and the memory of it are `intel-rapl:0:1`."""
    try:
        return zone.name.count(":") == 1 and (zone / "name").read_text().startswith("package")
    except OSError:
        return False


def _number(path: Path) -> int:
    return int(path.read_text())


class NvmlCounter:
    """One GPU, by NVIDIA's library.

    Raises:
        CounterMissing: the package or the library is not there, or the GPU counts no energy.
    """

    block_s = 0.5

    def __init__(self, device: str) -> None:
        try:
            import pynvml
        except ImportError as fault:
            raise CounterMissing("nvidia-ml-py is not installed", install="pip install nvidia-ml-py") from fault
        self._nvml: Any = pynvml
        try:
            pynvml.nvmlInit()
            self._gpu = pynvml.nvmlDeviceGetHandleByUUID(_uuid(device))
            self.joules()
        except pynvml.NVMLError as fault:
            raise CounterMissing(
                f"NVML does not say the energy of GPU {device}: {fault}",
                install=f"use a GPU of the generation of Volta or newer, with its driver, {_ELSEWHERE}",
            ) from fault

    def joules(self) -> float:
        return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu)) / 1e3


def _uuid(device: str) -> str:
    """Return NVML's name of a GPU that PyTorch numbers, which may see but some of them."""
    import torch

    return f"GPU-{torch.cuda.get_device_properties(torch_device(device)).uuid}"


def open_counter(device: str, runtime: str = "") -> Counter:
    """Return the counter of the device on which a runtime computes: `cpu`, which OpenVINO calls CPU, or an NVIDIA GPU.

    A GPU is named by its number or name. TensorRT computes on the first one where a study does not say which.

    Raises:
        CounterMissing: none that can be read.
    """
    if runtime == "tensorrt" and device in ("cpu", "auto"):
        return NvmlCounter("0")
    return RaplCounter(POWERCAP) if device.lower() == "cpu" else NvmlCounter(device)


class EnergyRunner:
    """An opened network whose blocks yield joules instead of seconds.

    `latency.protocol` interleaves it as a runner with its own clock: the ratio is one of energies, and what it calls
    milliseconds are millijoules.
    """

    is_here = True
    """Who computes beside it on this machine is counted, too."""

    def __init__(self, network: Runner, counter: Counter, clock: Callable[[], float] = time.perf_counter) -> None:
        self._network, self._counter, self._clock = network, counter, clock

    def run(self) -> None:
        self._network.run()

    def times_s(self) -> Floats:
        """Return the mean joules of an inference in one block, shape (1,). Raises LatencyError if none was counted."""
        count, before, end = 0, self._counter.joules(), self._clock() + self._counter.block_s
        while count == 0 or self._clock() < end:
            self._network.run()
            count += 1
        used = self._counter.joules() - before
        if not used > 0:
            raise LatencyError(f"The counter of energy stood still over {count} inferences.")
        return np.array([used / count])

    def describe(self) -> Conditions:
        return self._network.describe()
