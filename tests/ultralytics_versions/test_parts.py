"""Names that moved, parts that are not there, functions that take less: as releases between 8.3 and 8.4 have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ultralytics_versions import parts
from ultralytics_versions.parts import Absent, accepted, export_precision, known_settings, part, read_data, traced_onnx


def test_the_first_name_that_is_there_is_taken() -> None:
    assert part("nn.tasks", "no_such_name", "yaml_model_load").__name__ == "yaml_model_load"
    assert part("nn.tasks", "no_such_name", otherwise=None) is None
    assert part("nn.no_such_module", "anything", otherwise=Absent) is Absent
    assert not isinstance(torch.nn.Identity(), Absent)


def test_what_nobody_can_do_without_is_an_error() -> None:
    with pytest.raises(ImportError, match=r"ultralytics\.nn\.tasks has none of no_such_name"):
        part("nn.tasks", "no_such_name")
    with pytest.raises(ModuleNotFoundError):
        part("nn.no_such_module", "anything")


def test_a_package_that_is_missing_is_no_older_release(monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(name: str) -> None:
        raise ModuleNotFoundError("No module named 'cv2'", name="cv2")

    monkeypatch.setattr(parts, "import_module", import_module)
    with pytest.raises(ModuleNotFoundError, match="cv2"):
        part("nn.tasks", "anything", otherwise=None)


def test_options_and_settings_of_later_releases_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def early(root: str, args: Any) -> None: ...

    assert accepted(early, root="x", names={}) == {"root": "x"}
    assert known_settings({"epochs": 3, "no_such_setting": 1}) == {"epochs": 3}
    monkeypatch.setattr(parts, "DEFAULT_CFG_DICT", {"multi_scale": False, "lr0": 0.01})
    switched = known_settings({"multi_scale": 0.25, "lr0": 0.5})
    assert switched == {"multi_scale": True, "lr0": 0.5} and switched["multi_scale"] is True


def test_precision_is_asked_for_by_the_name_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "DEFAULT_CFG_DICT", {"int8": False, "half": False})
    assert (export_precision(8), export_precision(16)) == ({"int8": True}, {"half": True})
    monkeypatch.setattr(parts, "DEFAULT_CFG_DICT", {"quantize": None})
    assert export_precision(8) == {"quantize": 8}


def test_a_split_that_an_older_reader_does_not_look_for_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    found = {"train": "train", "val": str(tmp_path / "val"), "test": [str(tmp_path / "gone")]}

    def reader(dataset: str, autodownload: bool = True) -> dict[str, Any]:
        assert not autodownload
        return found

    assert read_data(reader, "data.yaml", "val") is found
    with pytest.raises(FileNotFoundError, match="missing path"):
        read_data(reader, "data.yaml", "test")
    with pytest.raises(FileNotFoundError, match="'minival:' images not found"):
        read_data(reader, "data.yaml", "minival")


def test_onnx_files_are_traced_unless_it_is_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(torch.onnx, "export", lambda *_, dynamo=True, **__: asked.append(dynamo))
    with traced_onnx():
        torch.onnx.export("model")
        torch.onnx.export("model", dynamo=True)
    torch.onnx.export("model")
    assert asked == [False, True, True]
