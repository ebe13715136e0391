"""The rows that a search is held against."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.commands.baselines import split_rows
from search.config.baseline_names import row_fault, siblings_located
from search.config.spec import load_spec
from search.evaluate.baselines import baseline_rows
from search.space import Dimension, Space
from search.testing.known_bases import known_joint
from search.testing.known_front import known_space


def sizes_at(stride: int) -> list[int | None]:
    space = Space((Dimension("a", ("a",), 0.0, 0.8),), (640,), stride=stride)
    return [row.imgsz for row in baseline_rows(["lower_size"], space, 640, 0)]


def test_lower_sizes_are_multiples_of_the_models_stride() -> None:
    assert all(size is not None and size % 64 == 0 and size < 640 for size in sizes_at(64))
    assert sizes_at(32) and sizes_at(64)


def test_a_lower_size_of_two_sides_keeps_their_shape() -> None:
    space = Space((Dimension("a", ("a",), 0.0, 0.8),), ((384, 640),))
    rows = baseline_rows(["lower_size", "random"], space, (384, 640), 0)
    assert [(row.imgsz, row.name, row.slug) for row in rows[:2]] == [
        ((288, 480), "the base at 288x480 px", "lower_size-288x480"),
        ((192, 320), "the base at 192x320 px", "lower_size-192x320"),
    ]
    assert {row.candidate.imgsz for row in rows[2:] if row.candidate is not None} == {(384, 640)}
    assert not baseline_rows(["lower_size"], space, 32, 0), "nothing is lower than one stride"


def test_the_rows_of_several_bases_are_those_of_each(tmp_path: Path) -> None:
    named = ["base", "lower_size", "int8", "uniform", f"sibling:{tmp_path}/n.pt"]
    rows = baseline_rows(named, known_joint(), 640, 0, ("s", "n"))
    names = [row.name for row in rows]
    assert names[:6] == ["s at 480 px", "s at 320 px", "n at 480 px", "n at 320 px", "s in INT8", "n in INT8"]
    assert "uniform 0.3 of n" in names and names.count("n.pt") == 1
    assert len({row.slug for row in rows}) == len(rows)
    assert all(row.candidate is None or row.candidate.base == row.base for row in rows)
    alone = baseline_rows(["int8"], known_space(), 640, 0)
    assert alone[0].slug == rows[4].slug, "the rows of the first base lie where they would without the others"


@pytest.mark.parametrize(
    ("runtime", "device", "rows"),
    [
        ("onnxruntime", "cpu", ("lower_size", "int8")),
        ("ncnn", "cpu", ("lower_size",)),
        ("torch", "cpu", ("lower_size",)),
        ("onnxruntime", "0", ("lower_size",)),
    ],
)
def test_int8_is_no_default_on_a_runtime_without_it(
    tmp_path: Path, runtime: str, device: str, rows: tuple[str, ...]
) -> None:
    (tmp_path / "m.pt").touch()
    (tmp_path / "d.yaml").touch()
    keys = {"model": str(tmp_path / "m.pt"), "data": str(tmp_path / "d.yaml"), "latency.device": device}
    assert load_spec(None, {**keys, "latency.runtime": runtime}).baseline_rows == rows
    assert load_spec(None, {**keys, "latency.runtime": runtime, "baselines": ["int8"]}).baseline_rows == ("int8",)


def test_a_network_to_train_is_a_file_or_the_name_of_an_architecture(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("nc: 1\n")
    located = siblings_located([{"train": "own.yaml"}, {"train": "yolov8n.yaml"}], tmp_path)
    assert located == [f"train:{tmp_path}/own.yaml", "train:yolov8n.yaml"]
    assert [row_fault(text) for text in ("train:yolov8n.yaml", "train:own.pt")] == [None, None]
    assert all("{train: yolov8n.yaml}" in str(row_fault(text)) for text in ("train", "train:"))
    own, stock = baseline_rows(["train:yolov8n.yaml", f"train:{tmp_path}/own.yaml"], known_space(), 640, 0)[::-1]
    assert own.slug.startswith("train-own-") and stock.slug == "train-yolov8n-stock"
    assert stock.name == "yolov8n trained as long as the search" and not stock.is_trained
    assert split_rows(["RUN", "train=yolov8n.yaml"]) == ("RUN", ("train:yolov8n.yaml",))
