"""Data sets of real pictures, made here from tiny clones of their sources, and the bases that are trained on them."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

os.environ.setdefault("YOLO_AUTOINSTALL", "false")
os.environ.setdefault("YOLO_OFFLINE", "true")

from search.config.spec import load_spec
from studies import repair_bases
from studies.bccd import make_data as bccd
from studies.mouse_pose import make_data as mouse_pose
from studies.pcb import make_data as pcb
from studies.real_pictures import Box, label_text
from studies.solar_cells import make_data as solar_cells
from tests.studies.test_digits import contents

STUDIES = Path(__file__).parents[2] / "studies"
BASES = {base.name: base for base in repair_bases.BASES}
SMEARS = {"train": ("c", "a", "b"), "val": ("e", "d"), "test": ("f",)}
BOARDS = {"trainval": 203, "test": 2}
FRAMES = 26


def picture(number: int, suffix: str = ".jpg") -> bytes:
    """Return the file of a small picture, another one for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return cv2.imencode(suffix, pixels)[1].tobytes()


def fill(root: Path, files: dict[str, bytes | str]) -> None:
    """Write files by their path below ``root``."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode() if isinstance(content, str) else content)


def voc(*boxes: tuple[str, int, int, int, int]) -> str:
    """Return a Pascal VOC annotation of a picture of 640 x 480."""
    sides = ("xmin", "ymin", "xmax", "ymax")
    drawn = ""
    for name, *numbers in boxes:
        box = "".join(f"<{side}>{number}</{side}>" for side, number in zip(sides, numbers, strict=True))
        drawn += f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"
    return f"<annotation><size><width>640</width><height>480</height></size>{drawn}</annotation>"


def clone_bccd(root: Path) -> None:
    """Six smears; the second box of each has no area."""
    for split, stems in SMEARS.items():
        fill(root / "BCCD", {f"ImageSets/Main/{split}.txt": "\n".join(stems) + "\n"})
        for stem in stems:
            boxes = voc(("WBC", 64, 48, 192, 144), ("RBC", 5, 9, 5, 9), ("Platelets", 0, 0, 640, 480))
            fill(root / "BCCD", {f"JPEGImages/{stem}.jpg": picture(ord(stem)), f"Annotations/{stem}.xml": boxes})


def clone_pcb(root: Path) -> None:
    """Boards beside their templates, which are other pictures; the lists in no order."""
    first = 0
    for name, count in BOARDS.items():
        lines = []
        for number in range(first, first + count):
            fill(
                root / "PCBData" / "group1",
                {
                    f"1/{number:05}_test.jpg": picture(number),
                    f"1/{number:05}_temp.jpg": b"the template",
                    f"1_not/{number:05}.txt": "64 128 128 256 5\n0 0 640 640 1\n",
                },
            )
            lines.append(f"group1/1/{number:05}.jpg group1/1_not/{number:05}.txt\n")
        random.Random(1).shuffle(lines)
        fill(root / "PCBData", {f"{name}.txt": "".join(lines)})
        first += count


def clone_mouse_pose(root: Path) -> None:
    """Frames whose points are the same; in the last one the animal sits in a corner."""
    folder = root / mouse_pose.FOLDER
    middle = [100.0, 100.0, 140.0, 100.0, 100.0, 120.0, 180.0, 180.0]
    corner = [0.0, 10.0, 10.0, 0.0, 10.0, 10.0, 100.0, 40.0]
    rows: list[list[Any]] = [["scorer"], ["bodyparts"], ["coords"]]
    for number in range(FRAMES):
        name = f"img{number:04}.png"
        fill(folder, {name: picture(number, ".png")})
        rows.append([f"labeled-data/m4s1/{name}", *(corner if number == FRAMES - 1 else middle)])
    with (folder / "CollectedData_Pranav.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def clone_solar_cells(root: Path) -> None:
    """Seven intact cells, three defective, two of which the experts were not certain."""
    said = ["0.0"] * 7 + ["1.0"] * 3 + ["0.3333333333333333", "0.6666666666666666"]
    names = [f"images/cell{number:04}.png" for number in range(len(said))]
    fill(root, {name: picture(number, ".png") for number, name in enumerate(names)})
    rows = (f"{name}  {probability:18}  mono\n" for name, probability in zip(names, said, strict=True))
    fill(root, {"labels.csv": "".join(rows)})


@dataclass(frozen=True)
class Source:
    """A script, how its tiny source is made, which files list the pictures, one of these, and how many come out."""

    maker: Any
    clone: Callable[[Path], None]
    lists: str
    picture: str
    sizes: dict[str, int]

    def make(self, source: Path, out: Path) -> Path:
        """Call the script; the solar cells look for an installed package, here it is ``source``."""
        if self.maker is not solar_cells:
            made: Path = self.maker.make_data(source, out)
            return made
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(solar_cells, "source", lambda: source)
            return solar_cells.make_data(out)


SOURCES = {
    "bccd": Source(
        bccd, clone_bccd, "BCCD/ImageSets/Main/*.txt", "BCCD/JPEGImages/e.jpg", {"train": 3, "val": 2, "test": 1}
    ),
    "pcb": Source(
        pcb, clone_pcb, "PCBData/*.txt", "PCBData/group1/1/00007_test.jpg", {"train": 3, "val": 200, "test": 2}
    ),
    "mouse_pose": Source(
        mouse_pose,
        clone_mouse_pose,
        f"{mouse_pose.FOLDER}/*.csv",
        f"{mouse_pose.FOLDER}/img0003.png",
        {"train": 3, "val": 23},
    ),
    "solar_cells": Source(solar_cells, clone_solar_cells, "labels.csv", "images/cell0003.png", {"train": 8, "val": 2}),
}
DETECTED = ("bccd", "pcb", "mouse_pose")


@pytest.fixture
def clone(tmp_path: Path, study: str) -> Path:
    """The source of a study, tiny."""
    SOURCES[study].clone(tmp_path / "clone")
    return tmp_path / "clone"


def pictures(out: Path, split: str) -> list[Path]:
    """Return the pictures of a split, in order: boxes lie beside images, classes are folders."""
    root = out / "images" / split if (out / "images").is_dir() else out / split
    return sorted(path for path in root.rglob("*") if path.suffix in (".jpg", ".png"))


def label(out: Path, split: str, stem: str) -> str:
    """Return the text of a label file."""
    return (out / "labels" / split / f"{stem}.txt").read_text()


# --- the data ---


@pytest.mark.parametrize("study", SOURCES)
def test_each_split_has_its_pictures_and_no_other(study: str, clone: Path, tmp_path: Path) -> None:
    SOURCES[study].make(clone, tmp_path / "data")
    found = {split: pictures(tmp_path / "data", split) for split in SOURCES[study].sizes}
    assert {split: len(paths) for split, paths in found.items()} == SOURCES[study].sizes
    names = [path.name for paths in found.values() for path in paths]
    assert len(names) == len(set(names))
    originals = {path.name: path.read_bytes() for path in clone.rglob("*.*")}
    assert all(path.read_bytes() == originals[path.name] for paths in found.values() for path in paths)


@pytest.mark.parametrize("study", DETECTED)
def test_each_picture_has_a_label(study: str, clone: Path, tmp_path: Path) -> None:
    SOURCES[study].make(clone, tmp_path / "data")
    for split in SOURCES[study].sizes:
        labels = sorted((tmp_path / "data" / "labels" / split).iterdir())
        assert [path.stem for path in labels] == [path.stem for path in pictures(tmp_path / "data", split)]


@pytest.mark.parametrize("study", ["bccd"])
def test_smears_keep_the_split_of_the_source_and_lose_boxes_without_area(clone: Path, tmp_path: Path) -> None:
    out = bccd.make_data(clone, tmp_path / "data").parent
    for split, stems in SMEARS.items():
        assert [path.stem for path in pictures(out, split)] == sorted(stems)
    wanted = "1 0.200000 0.200000 0.200000 0.200000\n2 0.500000 0.500000 1.000000 1.000000\n"
    assert label(out, "val", "d") == wanted


@pytest.mark.parametrize("study", ["pcb"])
def test_boards_are_the_tested_pictures_and_defects_count_from_zero(clone: Path, tmp_path: Path) -> None:
    out = pcb.make_data(clone, tmp_path / "data").parent
    assert [path.name for path in pictures(out, "test")] == ["00203_test.jpg", "00204_test.jpg"]
    wanted = "4 0.150000 0.300000 0.100000 0.200000\n0 0.500000 0.500000 1.000000 1.000000\n"
    assert label(out, "test", "00203_test") == wanted


@pytest.mark.parametrize("study", ["mouse_pose"])
def test_the_last_frames_validate_and_the_box_is_drawn_round_the_points(clone: Path, tmp_path: Path) -> None:
    out = mouse_pose.make_data(clone, tmp_path / "data").parent
    assert [path.name for path in pictures(out, "train")] == ["img0000.png", "img0001.png", "img0002.png"]
    box = "0 0.218750 0.291667 0.200000 0.266667"  # 80 px, and a margin of 24 on each side
    points = "0.156250 0.208333 2 0.218750 0.208333 2 0.156250 0.250000 2 0.281250 0.375000 2"
    assert label(out, "train", "img0001") == f"{box} {points}\n"
    # In the corner the margin ends at the edge: 130 x 70 px from there.
    assert label(out, "val", f"img{FRAMES - 1:04}").startswith("0 0.101562 0.072917 0.203125 0.145833 ")


@pytest.mark.parametrize("study", ["solar_cells"])
def test_cells_of_which_nobody_was_certain_are_left_out(clone: Path, tmp_path: Path) -> None:
    SOURCES["solar_cells"].make(clone, tmp_path / "data")
    classes = {path.stem: path.parent.name for split in ("train", "val") for path in pictures(tmp_path / "data", split)}
    assert classes == {f"cell{number:04}": "intact" if number < 7 else "defective" for number in range(10)}


def test_boxes_without_an_area_are_no_lines() -> None:
    boxes = [Box(0, 3, 3, 3, 9), Box(1, 3, 3, 9, 3), Box(2, 9, 3, 3, 9), Box(3, 0, 0, 4, 8)]
    assert label_text(boxes, 8, 8) == "3 0.250000 0.500000 0.500000 1.000000\n"
    assert label_text([], 8, 8) == ""


@pytest.mark.parametrize("study", DETECTED)
def test_data_yaml_names_the_classes_and_no_place(study: str, clone: Path, tmp_path: Path) -> None:
    from ultralytics.data.utils import check_det_dataset

    made = SOURCES[study].make(clone, tmp_path / "data")
    names = getattr(SOURCES[study].maker, "NAMES", ("mouse",))
    pose = {"kpt_shape": [4, 3], "flip_idx": [0, 2, 1, 3]} if study == "mouse_pose" else {}
    paths = {split: f"images/{split}" for split in SOURCES[study].sizes}
    assert yaml.safe_load(made.read_text()) == {**paths, **pose, "names": dict(enumerate(names))}
    found = check_det_dataset(str(made), autodownload=False)
    assert found["nc"] == len(names)
    assert {split: Path(found[split]) for split in paths} == {split: made.parent / paths[split] for split in paths}


@pytest.mark.parametrize("study", ["solar_cells"])
def test_ultralytics_finds_the_two_classes(clone: Path, tmp_path: Path) -> None:
    from ultralytics.data.utils import check_cls_dataset

    found = check_cls_dataset(SOURCES["solar_cells"].make(clone, tmp_path / "data"))
    assert found["names"] == {0: "defective", 1: "intact"}


# --- the folder ---


@pytest.mark.parametrize("study", SOURCES)
def test_the_same_call_again_writes_nothing(study: str, clone: Path, tmp_path: Path) -> None:
    made = SOURCES[study].make(clone, tmp_path / "data")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert SOURCES[study].make(clone, tmp_path / "data") == made
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("study", SOURCES)
def test_what_is_made_does_not_depend_on_where_the_source_lies(study: str, clone: Path, tmp_path: Path) -> None:
    SOURCES[study].make(clone, tmp_path / "data")
    clone.rename(tmp_path / "elsewhere")
    SOURCES[study].make(tmp_path / "elsewhere", tmp_path / "other" / "data")
    assert contents(tmp_path / "data") == contents(tmp_path / "other" / "data")


@pytest.mark.parametrize("study", SOURCES)
def test_another_picture_in_the_source_replaces_the_data(study: str, clone: Path, tmp_path: Path) -> None:
    SOURCES[study].make(clone, tmp_path / "data")
    changed = clone / SOURCES[study].picture
    changed.write_bytes(picture(1000, changed.suffix))
    SOURCES[study].make(clone, tmp_path / "data")
    (copy,) = (path for path in (tmp_path / "data").rglob(changed.name))
    assert copy.read_bytes() == changed.read_bytes()


@pytest.mark.parametrize("study", SOURCES)
def test_a_source_without_pictures_is_refused(study: str, clone: Path, tmp_path: Path) -> None:
    for path in clone.glob(SOURCES[study].lists):
        path.write_text("")
    with pytest.raises(
        ValueError, match=r"pictures.*: expected (a clone of https://github\.com/|those of the package)"
    ):
        SOURCES[study].make(clone, tmp_path / "data")
    assert list(tmp_path.iterdir()) == [clone]


@pytest.mark.parametrize("study", SOURCES)
def test_a_source_that_lacks_a_picture_is_refused_by_its_name(study: str, clone: Path, tmp_path: Path) -> None:
    missing = clone / SOURCES[study].picture
    missing.unlink()
    with pytest.raises(FileNotFoundError, match=missing.name):
        SOURCES[study].make(clone, tmp_path / "data")
    assert list(tmp_path.iterdir()) == [clone]


@pytest.mark.parametrize("study", SOURCES)
def test_a_folder_that_is_no_source_is_refused_by_its_name(study: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-clone"):
        SOURCES[study].make(tmp_path / "no-clone", tmp_path / "data")
    assert not list(tmp_path.iterdir())


def test_without_the_package_the_solar_cells_say_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install elpv-dataset"):
        solar_cells.source()


@pytest.mark.parametrize("study", SOURCES)
def test_a_folder_with_other_files_is_refused(study: str, clone: Path, tmp_path: Path) -> None:
    fill(tmp_path / "data", {"thesis.tex": "years of work"})
    with pytest.raises(FileExistsError, match=r"made\.json"):
        SOURCES[study].make(clone, tmp_path / "data")
    assert contents(tmp_path / "data") == {"thesis.tex": b"years of work"}


@pytest.mark.parametrize("study", DETECTED)
def test_the_command_prints_where_the_data_are(
    study: str, clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["make_data.py", "--source", str(clone), "--out", str(tmp_path / "data")]
    monkeypatch.setattr(sys, "argv", words)
    SOURCES[study].maker.main()
    assert capsys.readouterr().out == f"{tmp_path / 'data' / 'data.yaml'}\n"


# --- the bases ---


def test_no_two_bases_have_the_same_name() -> None:
    assert len(BASES) == len(repair_bases.BASES)


@pytest.mark.parametrize("study", SOURCES)
def test_bases_are_trained_on_what_the_script_of_their_study_makes(study: str, clone: Path, tmp_path: Path) -> None:
    made = SOURCES[study].make(clone, tmp_path / "data").relative_to(tmp_path)
    trained = [base for base in BASES.values() if base.study == study]
    assert trained
    assert all(base.data == STUDIES / study / made for base in trained)


@pytest.mark.parametrize("name", BASES)
def test_a_base_lies_beside_its_data_and_its_page_names_it(name: str) -> None:
    base = BASES[name]
    assert base.checkpoint == STUDIES / base.study / "bases" / f"{name}.pt"
    assert name.startswith(f"{base.study}-")
    page = (STUDIES / base.study / "README.md").read_text()
    assert f"`{name}.pt`" in page
    maker = STUDIES / base.study / "make_data.py"
    assert maker.is_file() or f"make_data.py --out studies/{base.study}/data" in page


@pytest.mark.parametrize("log", sorted(STUDIES.glob("*/bases/*.log")), ids=lambda log: log.stem)
def test_a_log_is_of_the_training_that_the_list_asks_for(log: Path) -> None:
    told = json.loads(log.read_text())
    device = told["args"]["device"]
    assert told["args"] == BASES[log.stem].args(device)
    assert (told.get("gpu") is None) == (device == "cpu")
    assert told["model"] == BASES[log.stem].model
    place = "" if device == "cpu" else f" --device {device}"
    assert told["command"] == f"python studies/repair_bases.py {log.stem}{place}"


def test_the_base_in_the_repository_was_trained_as_the_list_asks() -> None:
    from ultralytics.models import YOLO

    base = BASES["bccd-yolov8n"]
    loaded = YOLO(base.checkpoint)
    asked = base.args("cpu")
    assert {key: loaded.ckpt["train_args"][key] for key in asked} == asked
    assert loaded.names == dict(enumerate(bccd.NAMES))


@pytest.mark.parametrize("study", ["bccd", "pcb"])
def test_the_study_file_names_a_base_and_its_data(study: str) -> None:
    spec = load_spec(STUDIES / study / "study.yaml", check_paths=False)
    (base,) = (base for base in BASES.values() if base.checkpoint == Path(spec.model))
    assert (spec.name, Path(spec.data), spec.imgsz) == (study, base.data, base.imgsz)
