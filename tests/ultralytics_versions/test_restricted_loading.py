"""Checkpoints in releases that cannot load them safely: what is honest opens, and nothing else is ever called."""

from __future__ import annotations

import collections
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from ultralytics.nn import tasks
from ultralytics.nn.modules import Conv
from ultralytics.utils import IterableSimpleNamespace, loss

from tests.pruning import zoo
from ultralytics_versions import restricted_loading
from ultralytics_versions.restricted_loading import install, load

DIGITS = Path(__file__).parents[2] / "studies" / "digits"


@pytest.fixture(autouse=True)
def _of_an_old_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restricted_loading, "HAS_OWN", False)
    monkeypatch.setattr(restricted_loading._ULTRALYTICS, "torch_safe_load", restricted_loading._UNRESTRICTED)


class Planted:
    """A pickle that calls something."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.made = (call, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], Any]:
        return self.made


class Stranger(nn.Module):
    """A layer of nobody's."""


@pytest.mark.parametrize("name", ["yolov8n-digits.pt", "yolo11n-digits.pt"])
def test_an_honest_checkpoint_is_the_same_by_both_loaders(name: str) -> None:
    ours, theirs = load(DIGITS / name), restricted_loading._UNRESTRICTED(str(DIGITS / name), safe_only=True)[0]
    assert ours.keys() == theirs.keys()
    first, second = ours["model"].state_dict(), theirs["model"].state_dict()
    assert all(torch.equal(first[key], second[key]) for key in second) and first.keys() == second.keys()


def test_what_checkpoints_hold_beside_layers_is_read(tmp_path: Path) -> None:
    from torchvision.transforms import Compose, InterpolationMode, Normalize, Resize
    from ultralytics.utils.loss import v8ClassificationLoss

    held = {
        "model": zoo.build("yolov8n-cls.yaml"),
        "transforms": Compose([Resize(64, interpolation=InterpolationMode.BILINEAR), Normalize([0.0], [1.0])]),
        "criterion": v8ClassificationLoss(),
        "args": IterableSimpleNamespace(imgsz=64),
        "path": Path("runs/train"),
        "names": collections.OrderedDict({0: "dark"}),
    }
    torch.save(held, tmp_path / "held.pt")
    found = load(tmp_path / "held.pt")
    assert (
        found["args"].imgsz == 64 and found["path"] == Path("runs/train") and len(found["transforms"].transforms) == 2
    )


@pytest.mark.parametrize(
    "planted",
    [
        Planted(os.mkdir, "owned"),
        Planted(exec, "import os; os.mkdir('owned')"),
        Planted(pickle.loads, pickle.dumps(Planted(os.mkdir, "owned"))),
        Planted(getattr, IterableSimpleNamespace, "__init__"),
        Planted(getattr, nn.Identity, "__subclasses__"),
        Stranger(),
    ],
)
def test_anything_else_is_refused(planted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": planted}, tmp_path / "hostile.pt")
    with pytest.raises(pickle.UnpicklingError):
        load(tmp_path / "hostile.pt")
    assert not (tmp_path / "owned").exists()


HOSTILE = {
    "activation": "__import__('os').mkdir('owned') or nn.SiLU()",
    "nc": 1,
    "backbone": [[-1, 1, "nn.Identity", []]],
    "head": [],
}
"""A model's configuration, whose activation is evaluated where the model is made."""


@pytest.mark.parametrize(
    "planted",
    [
        Planted(tasks.DetectionModel, HOSTILE),
        Planted(tasks.ClassificationModel, HOSTILE),
        Planted(nn.Identity),
        Planted(loss.E2EDetectLoss, nn.Identity()),
        Planted(loss.v8DetectionLoss, nn.Identity()),
        Planted(getattr, nn.Identity(), "zero_grad"),
    ],
    ids=["model", "classifier", "layer", "loss", "another loss", "method"],
)
def test_no_constructor_runs(planted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": planted}, tmp_path / "hostile.pt")
    with pytest.raises(pickle.UnpicklingError, match=r"does not call|is no part of"):
        load(tmp_path / "hostile.pt")
    assert not (tmp_path / "owned").exists()
    assert isinstance(nn.Identity().training, bool)  # what was closed is open again


def test_other_threads_make_layers_while_a_file_is_loaded() -> None:
    made: list[nn.Module] = []
    with restricted_loading._constructors_closed([nn.Conv2d]):
        with pytest.raises(pickle.UnpicklingError, match="does not call Conv2d"):
            nn.Conv2d(1, 1, 1)
        thread = threading.Thread(target=lambda: made.append(nn.Conv2d(1, 1, 1)))
        thread.start()
        thread.join()
    assert isinstance(made[0], nn.Conv2d) and nn.Conv2d(1, 1, 1).weight.shape == (1, 1, 1, 1)


def test_a_layer_that_was_fused_is_run_as_it_was(tmp_path: Path) -> None:
    layer = Conv(1, 1)
    layer.forward = layer.forward_fuse
    torch.save({"model": layer}, tmp_path / "fused.pt")
    found = load(tmp_path / "fused.pt")["model"]
    assert found.forward == found.forward_fuse and found.forward.__self__ is found


def test_a_function_of_a_module_of_layers_is_no_layer(tmp_path: Path) -> None:
    """`torch.nn.modules` has functions and imports, too, that a file could call."""
    for name in ("torch.nn.modules.module.register_module_forward_hook", "ultralytics.nn.tasks.checks"):
        assert restricted_loading._known(name) is None
    assert restricted_loading._known("torch.nn.modules.module.warnings") is None
    assert restricted_loading._known("ultralytics.nn.tasks.DetectionModel") is not None
    assert restricted_loading._known("ultralytics.nn.modules.block.Silence") is nn.Identity


def test_ultralytics_itself_loads_so_once_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ultralytics import YOLO

    monkeypatch.chdir(tmp_path)
    torch.save({"model": Planted(os.mkdir, "owned")}, "hostile.pt")
    install()
    assert len(YOLO(DIGITS / "yolov8n-digits.pt").names) == 10
    with pytest.raises(pickle.UnpicklingError):
        YOLO("hostile.pt")
    assert not Path("owned").exists()


def test_without_the_switch_ultralytics_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(restricted_loading, "_UNRESTRICTED", lambda weight: asked.append(weight) or ({}, weight))
    monkeypatch.setenv("ULTRALYTICS_SAFE_LOAD", "0")
    install()
    assert restricted_loading._ULTRALYTICS.torch_safe_load("x.pt") == ({}, "x.pt") and asked == ["x.pt"]


def test_a_release_that_loads_safely_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restricted_loading, "HAS_OWN", True)
    install()
    assert restricted_loading._ULTRALYTICS.torch_safe_load is restricted_loading._UNRESTRICTED
