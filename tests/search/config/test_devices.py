from __future__ import annotations

import pytest
import torch

from search.config.devices import check_device
from search.errors import DeviceMissing


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    count = int(getattr(request, "param", 0))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return count


@pytest.mark.parametrize("device", ["mps", "-1", "0", "cuda", "cuda:0", "0,1", "tpu", "", "²", "9" * 5000])
def test_what_is_not_there_is_missing(device: str, gpus: int) -> None:
    with pytest.raises(DeviceMissing, match="there is no"):
        check_device(device)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_processor_is_always_there(device: str, gpus: int) -> None:
    check_device(device)


@pytest.mark.parametrize("gpus", [2], indirect=True)
@pytest.mark.parametrize(
    ("device", "there"), [("0", True), ("0,1", True), ("-1", True), ("cuda:1", True), ("2", False)]
)
def test_gpus_are_counted(device: str, there: bool, gpus: int) -> None:
    if there:
        check_device(device)
    else:
        with pytest.raises(DeviceMissing, match=r"there is no GPU 2 .*\n.*\n.*0 to 1"):
            check_device(device)
