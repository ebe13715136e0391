"""The device on which to train and validate: it is there, before any work begins."""

from __future__ import annotations

from search.errors import ConfigError, DeviceMissing


def check_device(device: str) -> None:
    """Check that PyTorch has the device that `device` names: auto, cpu, 0, cuda:0 or mps.

    One GPU trains a trial: Ultralytics trains on several in processes of its own, which know nothing of a fine-tune's
    schedule, judge and masks. Several GPUs are used by several workers on Ray.

    Ultralytics falls back to the CPU where a device is missing, and -1 is the idlest GPU.

    Raises:
        DeviceMissing: it is not there, or has no meaning. ConfigError: several devices.
    """
    import torch

    if device in ("auto", "cpu"):
        return
    count = torch.cuda.device_count()
    if device == "mps" and torch.backends.mps.is_available():
        return
    asked = [part.strip() for part in device.removeprefix("cuda:").split(",")]
    if count and device in ("cuda", "-1"):
        return
    if len(asked) > 1:
        raise ConfigError(
            f"device {device} names several GPUs, and a fine-tune here uses one",
            where="device",
            expected="one of them; for a search on several: search.engine=ray search.workers=2",
        )
    missing = [part for part in asked if not (part.isdecimal() and len(part) < 4 and int(part) < count)]
    if missing:
        known = "cpu" if not count else f"cpu, or 0 to {count - 1}"
        what = f"GPU {missing[0]}" if missing[0].isdecimal() else f"device {device!r}"
        raise DeviceMissing(f"there is no {what} that PyTorch can use", where="device", expected=known)
