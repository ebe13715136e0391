from __future__ import annotations

import pytest
import torch

from search.config.devices import check_device
from search.errors import ConfigError, DeviceMissing


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    count = int(getattr(request, "param", 0))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return count


@pytest.mark.parametrize("device", ["mps", "-1", "0", "cuda", "cuda:0", "tpu", "", "²", "9" * 5000])
def test_what_is_not_there_is_missing(device: str, gpus: int) -> None:
    with pytest.raises(DeviceMissing, match="there is no"):
        check_device(device)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_processor_is_always_there(device: str, gpus: int) -> None:
    check_device(device)


@pytest.mark.parametrize("gpus", [2], indirect=True)
@pytest.mark.parametrize(("device", "there"), [("0", True), ("-1", True), ("cuda:1", True), ("2", False)])
def test_gpus_are_counted(device: str, there: bool, gpus: int) -> None:
    if there:
        check_device(device)
    else:
        with pytest.raises(DeviceMissing, match=r"there is no GPU 2 .*\n.*\n.*0 to 1"):
            check_device(device)


@pytest.mark.parametrize("gpus", [0, 2], indirect=True)
@pytest.mark.parametrize("device", ["0,1", "cuda:0,1"])
def test_a_fine_tune_takes_one_gpu(device: str, gpus: int) -> None:
    with pytest.raises(ConfigError, match=r"several GPUs, and a fine-tune here uses one"):
        check_device(device)
