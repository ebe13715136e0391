"""The segmentation study: its data are the same for everybody, its outlines true, its base small and clean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from studies.seg_shapes import make_data as maker
from tests.studies.test_digits import absolute_paths, contents, pickled_part

STUDY = Path(__file__).parents[2] / "studies" / "seg_shapes"
BASE = STUDY / "yolov8n-seg-shapes.pt"


def scenes(count: int, **recipe: Any) -> list[Any]:
    """Draw ``count`` scenes of each split."""
    asked = maker.Recipe(**recipe)
    return [maker.draw_scene(split, index, asked) for split in maker.SPLITS for index in range(count)]


def test_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first = maker.make_data(tmp_path / "a", train=4, val=2, seed=3)
    second = maker.make_data(tmp_path / "b", train=4, val=2, seed=3)
    assert contents(first.parent) == contents(second.parent)
    assert yaml.safe_load(first.read_text())["names"] == dict(enumerate(maker.NAMES))


def test_the_base_was_trained_on_these_scenes() -> None:
    """The hash in the log is over all scenes; here over the first, which every other follows by the same code."""
    log = json.loads(BASE.with_suffix(".log").read_text())
    assert log["data"].keys() == set(maker.SPLITS) and log["params"] == 3264396
    assert log["val"]["mask_map50_95"] > 0.45 and log["val"]["map50_95"] > 0.55


def test_a_scene_does_not_depend_on_how_many_are_made() -> None:
    few, many = (maker.draw_scene("train", 2, maker.Recipe(train=count)) for count in (3, 5000))
    assert np.array_equal(few.image, many.image) and few.label() == many.label()


def test_outlines_are_the_masks_and_nothing_covers_anything() -> None:
    for scene in scenes(20):
        assert len(scene.masks) == len(scene.outlines) == len(scene.classes) > 0
        assert sum(mask > 0 for mask in scene.masks).max() == 1
        for outline, mask in zip(scene.outlines, scene.masks, strict=True):
            corners = outline.astype(np.float32)
            area, edge = cv2.contourArea(corners), cv2.arcLength(corners, closed=True)
            assert area - 1 <= mask.sum() <= area + edge  # the painted edge reaches up to a px beyond


def test_labels_say_the_outlines_and_stay_inside() -> None:
    for scene in scenes(20):
        for row, outline in zip(scene.label().splitlines(), scene.outlines, strict=True):
            name, *numbers = row.split()
            assert maker.NAMES[int(name)] in maker.NAMES
            assert np.allclose(np.array(numbers, float).reshape(-1, 2) * 160, outline, atol=1e-3)
            assert min(map(float, numbers)) >= 0 and max(map(float, numbers)) <= 1


def test_the_picture_changes_only_where_the_masks_are() -> None:
    recipe = maker.Recipe(blur=(0.0, 0.0), noise=(0.0, 0.0), contrast=(60.0, 90.0))
    for index in range(10):
        scene = maker.draw_scene("val", index, recipe)
        bare = maker.digits.background(np.random.default_rng([0, 1, index]), "val", recipe.imgsz)
        changed = (scene.image != bare).any(-1)
        assert not changed[sum(scene.masks) == 0].any() and changed.any()


def test_sizes_give_every_level_of_the_head_work() -> None:
    sides = np.concatenate([[np.ptp(outline, axis=0).max() for outline in one.outlines] for one in scenes(60)])
    assert min((sides < 20).mean(), ((sides >= 20) & (sides < 50)).mean(), (sides >= 50).mean()) > 0.1
    assert {name for one in scenes(30) for name in one.classes} == set(range(len(maker.NAMES)))


def test_the_base_is_small_names_no_machine_and_finds_shapes() -> None:
    from ultralytics.models import YOLO

    assert BASE.stat().st_size < 7_000_000 and absolute_paths(pickled_part(BASE)) == []
    base = YOLO(BASE)
    assert base.task == "segment" and base.names == dict(enumerate(maker.NAMES)) and base.overrides["imgsz"] == 160
    recipe = maker.Recipe(shapes=(1, 1), size=(0.3, 0.5), contrast=(80.0, 90.0), noise=(0.0, 2.0))
    drawn = [maker.draw_scene("val", index, recipe) for index in range(20)]
    found = base([scene.image for scene in drawn], imgsz=160, device="cpu")
    named = [scene.classes[0] in one.boxes.cls.int().tolist() for scene, one in zip(drawn, found, strict=True)]
    assert np.mean(named) > 0.7 and sum(one.masks is not None for one in found) > 14
