"""The same data are the same wherever they lie; other contents are named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.config.inputs import data_contents
from search.config.inputs.data_contents import (
    DataContents,
    FileContent,
    ImageContent,
    contents_of,
    contents_of_files,
    differences,
)
from search.config.inputs.dataset import LabelRules, open_dataset
from tests.tiny_data import make_tiny_data

SIZE = 32


def read(data: Path, before: DataContents | None = None, task: str = "detect") -> DataContents:
    return contents_of(open_dataset(data, LabelRules(task)), before)


def replaced(file: Path) -> None:
    """Another picture of the same number of bytes, which keeps its old time of change."""
    about = file.stat()
    other = file.parent / "001.png"
    content = other.read_bytes()
    assert file.name == "000.png"
    file.write_bytes(content)
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns + 1))


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "another image": (
        lambda root: replaced(root / "images/val/000.png"),
        "val: other contents: 1 of 6 (images/val/000.png)",
    ),
    "an image is gone": (
        lambda root: (root / "images/train/003.png").unlink(),
        "train: gone: 1 of 12 (images/train/003.png)",
    ),
    "a new image": (
        lambda root: shutil.copy(root / "images/train/000.png", root / "images/train/900.png"),
        "train: new: 1 of 12 (images/train/900.png)",
    ),
    "labels rewritten": (
        lambda root: (root / "labels/val/002.txt").write_text("1 0.50000 0.50000 0.25000 0.25000\n"),
        "val: other labels: 1 of 6 (images/val/002.png)",
    ),
    "labels deleted": (
        lambda root: [file.unlink() for file in (root / "labels/train").iterdir()],
        "train: labels gone: 12 of 12 (images/train/000.png, images/train/001.png, images/train/002.png, ",
    ),
    "an image breaks": (
        lambda root: (root / "images/train/005.png").write_bytes(b"garbage"),
        "train: cannot be used any more: 1 of 12 (images/train/005.png)",
    ),
    "classes renamed": (
        lambda root: (root / "data.yaml").write_text((root / "data.yaml").read_text().replace("bright", "light")),
        "names: ['dark', 'bright'] in the run, ['dark', 'light'] now",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_data_are_named(change: str, tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path, size=SIZE)
    before = read(data)
    assert differences(before, read(data, before)) == []
    act, said = CHANGES[change]
    act(tmp_path)
    rows = differences(before, read(data, before))
    assert len(rows) == 1 and rows[0].startswith(said)


def test_another_spelling_and_another_place_are_the_same_data(tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path / "here", size=SIZE)
    before = read(data)
    text = data.read_text()
    for spelling in ("./images/train", "images/../images/train/", str(tmp_path / "here" / "images" / "train")):
        data.write_text("# by hand\n" + text.replace("images/train", spelling))
        assert differences(before, read(data)) == []
    assert differences(before, read(tmp_path / "here" / ".." / "here" / "data.yaml")) == []
    (tmp_path / "here" / "train.txt").write_text(
        "".join(f"{file}\n" for file in sorted((tmp_path / "here" / "images" / "train").iterdir()))
    )
    data.write_text(text.replace("images/train", "train.txt"))
    assert differences(before, read(data)) == []
    data.write_text(text.replace(str(tmp_path / "here"), str(tmp_path / "there")))
    (tmp_path / "here").rename(tmp_path / "there")
    assert differences(before, read(tmp_path / "there" / "data.yaml", before)) == []


def test_an_image_in_another_class_is_another_label(tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path, task="classify", size=SIZE)
    before = read(data, task="classify")
    assert differences(before, read(data, before, "classify")) == []
    (data / "train" / "dark" / "000.png").rename(data / "train" / "bright" / "000.png")
    rows = differences(before, read(data, before, "classify"))
    gone = "train: gone: 1 of 12 (train/dark/000.png)"
    assert rows == [gone, "train: new: 1 of 12 (train/bright/000.png)"]


def test_what_did_not_change_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_tiny_data(tmp_path, size=SIZE)
    (tmp_path / "images" / "train" / "000.png").write_bytes(b"garbage")
    before = DataContents.from_json(json.loads(json.dumps(read(data).to_json())))
    hashed: list[str] = []
    real = data_contents._file
    monkeypatch.setattr(data_contents, "_file", lambda file: hashed.append(Path(file).name) or real(file))
    assert read(data, before) == before
    assert hashed == []
    os.utime(tmp_path / "labels" / "val" / "001.txt")
    assert differences(before, read(data, before)) == []
    assert sorted(hashed) == ["001.png", "001.txt"]


def test_thousands_of_images_that_stay_are_looked_over_but_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clips").mkdir()
    for number in range(3000):
        (tmp_path / "clips" / f"{number}.npy").write_bytes(b"%d" % number)
    before = contents_of_files(tmp_path / "clips")
    with monkeypatch.context() as patch:
        patch.setattr(data_contents, "_file", lambda file: pytest.fail(f"{file} was read again"))
        assert contents_of_files(tmp_path / "clips", before) == before
    (tmp_path / "clips" / "7.npy").write_bytes(b"x")
    rows = differences(before, contents_of_files(tmp_path / "clips", before))
    assert rows == ["files: other contents: 1 of 3,000 (7.npy)"]


def test_a_jpeg_that_ultralytics_mends_is_mended_before_its_digest(tmp_path: Path) -> None:
    import cv2

    data = make_tiny_data(tmp_path, size=SIZE)
    file = tmp_path / "images" / "train" / "000.jpg"
    (tmp_path / "images" / "train" / "000.png").unlink()
    cv2.imwrite(str(file), np.full((SIZE, SIZE, 3), 90, np.uint8))
    file.write_bytes(file.read_bytes() + b"tail")
    before = read(data)
    assert not before.faults("train") and file.read_bytes()[-2:] == b"\xff\xd9"
    assert differences(before, read(data)) == []


def test_a_name_that_is_no_utf_8_is_kept_and_can_be_shown(tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path, size=SIZE)
    odd = os.fsencode(tmp_path / "images" / "train") + b"/caf\xe9.png"
    os.rename(tmp_path / "images" / "train" / "000.png", odd)
    before = DataContents.from_json(json.loads(json.dumps(read(data).to_json())))
    assert read(data, before) == before
    os.unlink(odd)
    rows = differences(before, read(data, before))
    assert rows == [r"train: gone: 1 of 12 (images/train/caf\xe9.png)"]
    assert rows[0].encode("utf-8")


texts = st.text(max_size=3)
files = st.none() | st.builds(FileContent, st.integers(0, 9), st.integers(0, 9), texts)
rows = st.dictionaries(st.text(min_size=1, max_size=3), st.builds(ImageContent, files, files, texts, st.none() | texts))
contents = st.builds(
    DataContents,
    texts,
    st.dictionaries(texts, texts, max_size=2),
    st.dictionaries(st.sampled_from(["train", "val"]), rows),
)


@settings(max_examples=50, deadline=None)
@given(contents, contents)
def test_records_survive_json_and_differ_exactly_when_digests_do(one: DataContents, other: DataContents) -> None:
    assert DataContents.from_json(json.loads(json.dumps(one.to_json()))) == one
    assert differences(one, one) == []
    same = dict(one.settings) == dict(other.settings)
    same = same and all(one.digest(split) == other.digest(split) for split in ("train", "val"))
    assert (differences(one, other) == []) == same
