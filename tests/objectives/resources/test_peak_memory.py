"""Peak memory of a process of its own: it grows with what the network holds, and a fault is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from objectives.errors import LatencyError
from objectives.resources import peak_memory as module
from objectives.resources.peak_memory import memory_mb, peak_memory
from objectives.runtimes.export import export_for_timing

SHAPE = (1, 3, 32, 32)


class Wide(nn.Module):
    """A network whose weights take 4 * 3072 * `width` bytes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 1)
        self.layer = nn.Linear(3 * 32 * 32, width, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layer(self.stem(images).flatten(1))
        return found


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_network_that_holds_more_weights_takes_more(
    runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROCESSES", 1)
    small, large = (
        export_for_timing(Wide(width).eval(), tmp_path / f"{width}.onnx", imgsz=32) for width in (16, 16 + 4_000)
    )
    before, after = (memory_mb(path, runtime, SHAPE, 1) for path in (small, large))
    weights_mb = 4 * 3072 * 4_000 / 1e6
    assert after.value - before.value > 0.9 * weights_mb, "49 MB of weights are resident"
    assert before.value > 10, "Python and the runtime count"


def test_several_processes_give_an_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter([40.0, 41.0, 42.0])
    monkeypatch.setattr(module, "peak_memory", lambda *a: {"peak_mb": next(said)})
    found = memory_mb(tmp_path, "onnxruntime", SHAPE, 1)
    assert found.value == 41.0 and found.low == pytest.approx(41 - 2.484, abs=0.01) and found.high > 42


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(LatencyError, match=r"a process of its own could not run model\.onnx: .*INVALID"):
        peak_memory(tmp_path / "model.onnx", "onnx", (1, 3, 8, 8))
