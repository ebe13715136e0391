"""Batches, dynamic shapes and suppression in an exported graph: who can have them, and what they are called."""

from __future__ import annotations

from typing import Any

import pytest

from search.errors import ConfigError
from search.export.format_table import CHECKED, FORMATS
from search.export.formats import Target, check_graph, checked_targets
from search.export.graph_options import PLAIN, GraphOptions


def test_what_a_format_takes_is_what_ultralytics_exporter_knows() -> None:
    from ultralytics.engine.exporter import export_formats

    table = export_formats()
    known = dict(zip(table["Argument"], map(set, table["Arguments"]), strict=True))
    for name, form in FORMATS.items():
        assert form.takes <= known[name], name
    assert [name for name in CHECKED if "nms" in FORMATS[name].takes] == ["onnx", "torchscript", "openvino", "engine"]


@pytest.mark.parametrize(
    ("given", "label", "name"),
    [
        ({}, "onnx fp32", "m.onnx"),
        ({"batch": 1, "dynamic": False, "nms": None}, "onnx fp32", "m.onnx"),
        ({"batch": 4}, "onnx fp32 batch4", "m_batch4.onnx"),
        ({"nms": True, "dynamic": True}, "onnx fp32 nms dynamic", "m_nms_dynamic.onnx"),
    ],
)
def test_a_graph_that_is_not_the_plain_one_has_a_name_of_its_own(given: Any, label: str, name: str) -> None:
    """So that it neither replaces the plain file nor is taken for it."""
    graph = GraphOptions.of({**given, "format": "onnx", "quantize": 8})
    target = Target(FORMATS["onnx"], 32, graph)
    assert (target.label, target.file_name("m")) == (label, name)
    assert graph.is_plain == (graph == PLAIN) == (label == "onnx fp32")


def test_the_keys_are_those_of_the_exporter() -> None:
    assert PLAIN.arguments == GraphOptions(batch=4).arguments == {}
    assert GraphOptions(dynamic=True).arguments == {"dynamic": True}
    assert GraphOptions.of({"nms": True, "conf": 0.1}).arguments == {"nms": True, "conf": 0.1, "iou": 0.7}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"batch": 0}, "0 is no batch"),
        ({"batch": "4"}, "'4' is no batch"),
        ({"batch": True}, "True is no batch"),
        ({"batch": 2.0}, "2.0 is no batch"),
        ({"batch": 10**9}, "is no batch"),
        ({"nms": "yes"}, "'yes' is neither true nor false"),
        ({"dynamic": 1}, "1 is neither true nor false"),
        ({"conf": 0.5}, "conf is a threshold of suppression"),
        ({"nms": True, "iou": 1.5}, "1.5 is no iou"),
        ({"nms": True, "conf": float("nan")}, "nan is no conf"),
    ],
)
def test_a_value_that_is_none_is_refused(given: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        GraphOptions.of(given)


@pytest.mark.parametrize(
    ("form", "bits", "given", "said"),
    [
        ("ncnn", 32, {"batch": 4}, "ncnn has no batch here"),
        ("mnn", 32, {"dynamic": True}, "mnn has no dynamic here"),
        ("executorch", 32, {"nms": True}, "executorch has no nms here"),
        ("onnx", 8, {"nms": True}, "not made part of an INT8 file"),
    ],
)
def test_what_a_format_cannot_have_is_refused(form: str, bits: int, given: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        check_graph([Target(FORMATS[form], bits, GraphOptions.of(given))])
    assert "onnx, torchscript, openvino" in str(refused.value.expected)


def test_a_classifier_has_no_boxes_to_suppress() -> None:
    targets, _ = checked_targets(["onnx"], graph=GraphOptions(nms=True))
    check_graph(targets, "detect")
    with pytest.raises(ConfigError, match="a classifier has no boxes"):
        check_graph(targets, "classify")
