"""Our table of formats against that of the Ultralytics that is installed, and what is only passed on."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from objectives.errors import BackendMissing
from objectives.runtimes.names import RUNTIMES
from search.config.precision_support import FILES, precisions_of
from search.export import formats
from search.export.format_table import CHECKED, FORMATS, PASSED_ON
from search.export.formats import BITS, checked_targets


def test_every_format_of_ultralytics_can_be_asked_for() -> None:
    from ultralytics.engine import exporter

    table = exporter.export_formats()
    theirs = dict(zip(table["Argument"], table["Suffix"], strict=True))
    del theirs["-"]
    assert {name: found.suffix for name, found in FORMATS.items()} == theirs and len(theirs) == 22
    assert set(CHECKED) | set(PASSED_ON) == set(FORMATS) and len(CHECKED) == 8


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_precision_is_one_that_ultralytics_makes(name: str) -> None:
    from ultralytics.engine import exporter

    ours = set(FORMATS[name].precisions)
    assert (32 in ours) == (name not in exporter.FP32_UNSUPPORTED_FORMATS)
    assert 16 not in ours or name in exporter.FP16_FORMATS
    assert 8 not in ours or name in exporter.INT8_FORMATS or FORMATS[name].options.get("quantize") == "w8a16"


def test_every_checked_format_has_a_runtime_and_every_runtime_a_format() -> None:
    assert {FORMATS[name].runtime for name in CHECKED} == set(RUNTIMES) - {"torch"}
    assert all(FORMATS[form].runtime == runtime for runtime, form in FILES.items())
    for runtime, form in FILES.items():
        for device in ("cpu", "0"):
            assert all(BITS[one] in FORMATS[form].precisions for one in precisions_of(runtime, device))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("rknn", "pip install rknn-toolkit2"),
        ("hailo", "Hailo Dataflow Compiler is on https://hailo.ai"),
        ("axelera", "pip install axelera-devkit; from https://software.axelera.ai"),
        ("litert", "pip install .*litert-torch"),
    ],
)
def test_what_a_format_needs_is_said_with_where_it_comes_from(
    name: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, needed = importlib.util.find_spec, {*FORMATS[name].packages} - {"onnx"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda one: None if one in needed else real(one))
    with pytest.raises(BackendMissing, match=line):
        checked_targets([name])


def test_a_program_that_ultralytics_would_install_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        formats.FORMATS, "imx", replace(FORMATS["imx"], packages=(), programs=("a-compiler-of-2099", "sh"))
    )
    with pytest.raises(BackendMissing, match="a-compiler-of-2099 is not installed, and exporting imx int8 needs it"):
        checked_targets(["imx"])


def test_a_format_without_float32_is_made_in_what_it_has() -> None:
    plain = {name: replace(found, packages=(), programs=()) for name, found in FORMATS.items()}
    assert [formats._bits(plain[name], None) for name in ("rknn", "imx", "onnx")] == [(16,), (8,), (32,)]
    assert formats._bits(plain["rknn"], "8,16") == (8, 16)


def test_no_file_of_a_runtime_is_called_like_anothers(tmp_path: Path) -> None:
    assert len({found.suffix for found in FORMATS.values()}) == len(FORMATS)
