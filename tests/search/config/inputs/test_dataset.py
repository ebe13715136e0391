"""Data sets as people have them: each is read as Ultralytics' own training reads it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from pruning.recovery.bn_calibration import calibration_batches
from search.config.inputs.dataset import Dataset, LabelRules, check_faults, faults_note, open_dataset
from search.config.inputs.ultralytics_safety import harden
from search.errors import ConfigError
from search.export.calibration_images import calibration_files
from tests.tiny_data import make_tiny_data

SIZE = 32
harden()


def opened(data: Path, task: str = "detect") -> Dataset:
    return open_dataset(data, LabelRules(task))


def relative(dataset: Dataset, split: str, root: Path) -> list[str]:
    return [os.path.relpath(file, root) for file in dataset.files(split)]


def trained_on(data: Path) -> list[str]:
    """The images of Ultralytics' own training set."""
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    from objectives.ultralytics_door import quiet

    with quiet():
        said = check_det_dataset(str(data), autodownload=False)
        return list(YOLODataset(img_path=said["train"], data=said, augment=False, imgsz=SIZE).im_files)


def roboflow(root: Path) -> Path:
    """`train: ../train/images` in a data.yaml that stands beside the folder `train`."""
    made = make_tiny_data(root / "made", size=SIZE).parent
    for split, name in (("train", "train"), ("val", "valid")):
        for kind in ("images", "labels"):
            shutil.copytree(made / kind / split, root / name / kind)
    shutil.rmtree(made)
    data = root / "data.yaml"
    data.write_text("train: ../train/images\nval: ../valid/images\nnames: [dark, bright]\n")
    return data


def listed(root: Path) -> Path:
    """A list file with names that have blanks."""
    data = make_tiny_data(root, size=SIZE)
    for kind in ("images", "labels"):
        for file in sorted((root / kind / "train").iterdir()):
            file.rename(file.with_name(f"my own {file.name}"))
    files = sorted((root / "images" / "train").iterdir())
    (root / "train.txt").write_text("".join(f"./images/train/{file.name}\n" for file in files))
    return renamed(data, train="train.txt")


def nested(root: Path) -> Path:
    data = make_tiny_data(root, size=SIZE)
    for kind in ("images", "labels"):
        for number, file in enumerate(sorted((root / kind / "train").iterdir())):
            place = root / kind / "train" / f"camera {number % 3}" / "day"
            place.mkdir(parents=True, exist_ok=True)
            file.rename(place / file.name)
    return data


def not_utf_8(root: Path) -> Path:
    data = make_tiny_data(root, size=SIZE)
    for kind in ("images", "labels"):
        for file in sorted((root / kind / "train").iterdir()):
            os.rename(file, os.fsencode(file.parent) + b"/caf\xe9-" + os.fsencode(file.name))
    return data


def renamed(data: Path, **said: Any) -> Path:
    data.write_text(yaml.safe_dump({**yaml.safe_load(data.read_text()), **said}))
    return data


@pytest.mark.parametrize("make", [roboflow, listed, nested, not_utf_8])
def test_all_readers_see_what_ultralytics_trains_on(make: Any, tmp_path: Path) -> None:
    data = make(tmp_path)
    dataset = opened(data)
    expected = trained_on(data)
    assert list(dataset.files("train")) == expected and len(expected) == 12
    assert dataset.faults(dataset.files("train")) == {}
    assert all(Path(dataset.label_of(file)).is_file() for file in dataset.files("train"))
    assert sum(map(len, calibration_batches(data, SIZE, count=100))) == 12
    assert [str(file) for file in calibration_files(data, 12)] == expected


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test"])
def test_the_validation_images_of_a_classifier_have_three_more_names(name: str, tmp_path: Path) -> None:
    from objectives.accuracy.subjects import ModelFacts, check_data

    data = make_tiny_data(tmp_path / "data", task="classify", size=SIZE)
    (data / "val").rename(data / name)
    dataset = opened(data, "classify")
    assert (len(dataset.files("train")), len(dataset.files("val"))) == (12, 6)
    assert dataset.names == ("bright", "dark")
    assert Path(dataset.label_of(dataset.files("val")[0])).name == "bright"
    check_data(data, "val", ModelFacts("model", "classify", ("bright", "dark"), single_cls=False))


def test_a_folder_without_train_is_not_cut_in_two(tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path / "data", task="classify", size=SIZE)
    (data / "train").rename(data / "all")
    with pytest.raises(ConfigError, match="no folder train"):
        opened(data, "classify")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def faulty(root: Path) -> tuple[Path, dict[str, str]]:
    """A data set with an image of every fault, and what is said of it."""
    data = make_tiny_data(root, size=SIZE, images=24)
    images, labels = root / "images" / "train", root / "labels" / "train"
    (images / "000.png").write_bytes(b"garbage")
    (images / "001.png").write_bytes((images / "001.png").read_bytes()[:200])
    (images / "002.png").unlink()
    (images / "002.png").symlink_to("gone.png")
    (labels / "003.txt").write_text("7 0.5 0.5 0.1 0.1\n")
    (images / "004.png").rename(images / "004.heic")
    (images / "004.heic").write_bytes(b"garbage")
    (images / "clip.mp4").write_bytes(b"no image, and none that Ultralytics trains on")
    said = {
        "000.png": "no image that can be read",
        "001.png": "",
        "002.png": "a link to nothing",
        "003.png": "Label class 7 exceeds dataset class count 2. Possible class labels are 0-1",
        "004.heic": "HEIF images need a package: pip install pi-heif",
    }
    return data, said


def test_faults_are_named_by_the_users_own_path_and_left_out_everywhere(tmp_path: Path) -> None:
    from search.prepare.trial_time import sample_of

    data, said = faulty(tmp_path)
    dataset = opened(data)
    files = dataset.files("train")
    faults = dataset.faults(files)
    assert {Path(file).name: fault for file, fault in faults.items() if Path(file).name != "001.png"} == {
        name: fault for name, fault in said.items() if name != "001.png"
    }
    assert len(faults) == 5 and all(Path(file).parent == tmp_path / "images" / "train" for file in faults)
    assert set(trained_on(data)) == set(files) - set(faults)
    assert len(calibration_files(data, 100)) == 19
    assert [file.name for file in calibration_files(data, 3)] == ["005.png", "008.png", "016.png"], (
        "the next image takes the place of a faulty one"
    )
    sample = sample_of(dataset, tmp_path / "sample", train=100, val=100)
    assert opened(sample).faults(opened(sample).files("train")) == {}
    assert len(opened(sample).files("train")) == 19


def test_faults_are_one_line_however_many_they_are(tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path, size=SIZE, images=60)
    for file in (tmp_path / "labels" / "train").iterdir():
        file.write_text("9 0.5 0.5 0.1 0.1\n")
    dataset = opened(data)
    files = dataset.files("train")
    with pytest.raises(ConfigError, match="none of the 60 training images can be used") as refused:
        check_faults(dataset, "train", 60, dataset.faults(files))
    assert "Label class 9 exceeds dataset class count 2" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 4


@pytest.mark.parametrize(("total", "bad", "is_refused"), [(1200, 3, False), (100, 10, False), (100, 11, True)])
def test_a_tenth_may_be_faulty(total: int, bad: int, is_refused: bool, tmp_path: Path) -> None:
    dataset = Dataset(tmp_path, LabelRules(), {})
    faults = {f"{number}.png": "no image that can be read" for number in range(bad)}
    note = faults_note("train", total, faults)
    assert note.startswith(f"{bad} of {total:,} training images left out") and "\n" not in note and len(note) < 250
    if is_refused:
        with pytest.raises(ConfigError, match="only 89 of the 100 training images can be used"):
            check_faults(dataset, "train", total, faults)
    else:
        check_faults(dataset, "train", total, faults)


def test_of_a_few_images_three_may_be_faulty_but_not_all(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path, LabelRules(), {})
    three = dict.fromkeys(("a", "b", "c"), "no such file")
    check_faults(dataset, "val", 4, three)
    with pytest.raises(ConfigError, match="none of the 3 validation images"):
        check_faults(dataset, "val", 3, three)
    check_faults(dataset, "val", 0, {})


def test_a_list_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    data = listed(tmp_path)
    (tmp_path / "train.txt").write_bytes(b"./images/train/caf\xe9.png\n")
    with pytest.raises(ConfigError, match=r"the list of images .*train.txt is not UTF-8 text"):
        opened(data)


@pytest.mark.parametrize("extra", ["# \u4e2d\u6587".encode("gbk"), b"# bell \x07", b"\xef\xbb\xbf# mark"])
def test_a_data_yaml_of_another_system_is_read_as_ultralytics_reads_it(extra: bytes, tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path, size=SIZE)
    data.write_bytes(extra + b"\n" + data.read_bytes())
    assert len(opened(data).files("train")) == 12


def test_links_in_a_circle_are_refused_before_anything_follows_them(tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path / "data", size=SIZE)
    classes = make_tiny_data(tmp_path / "classes", task="classify", size=SIZE)
    for place in (tmp_path / "data" / "images" / "train", classes / "train" / "dark"):
        for name in ("one", "two"):
            (place / name).symlink_to("..")
    for path, task in ((data, "detect"), (classes, "classify")):
        with pytest.raises(ConfigError, match="is a link to a folder that holds it"):
            opened(path, task)


def test_rules_are_those_of_the_model() -> None:
    from types import SimpleNamespace

    assert LabelRules.of(SimpleNamespace()) == LabelRules("detect", False)
    said = SimpleNamespace(task="pose", args={"single_cls": True})
    assert LabelRules.of(said) == LabelRules("pose", True)
    assert LabelRules.of(SimpleNamespace(task="obb", args=SimpleNamespace(single_cls=False))) == LabelRules("obb")
