from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from search.deliver import user_export
from search.export.errors import ExportFailed


def test_an_exporter_that_fails_without_a_word_is_named_by_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(user_export, "WRITERS", {"onnx": (".onnx", fails)})
    order: Any = SimpleNamespace(model=None, inputs=[np.zeros((1, 1), np.float32)])
    with pytest.raises(ExportFailed, match="onnx: NotImplementedError"):
        user_export._made(order, "onnx", tmp_path, tmp_path)
