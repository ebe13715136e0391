"""Several bases in one study: what is accepted, how they are called, and what makes runs comparable."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from search.config.bases import base_names, check_same
from search.config.comparability import comparable, fingerprint
from search.config.inputs.checkpoint_facts import ModelOutputs
from search.config.spec import StudySpec, load_spec
from search.errors import ConfigError


def _spec(folder: Path, model: str, **overrides: object) -> StudySpec:
    (folder / "study.yaml").write_text(f"model: {model}\ndata: data.yaml\n")
    return load_spec(folder / "study.yaml", overrides)


@pytest.fixture
def two(workplace: Path) -> Path:
    (workplace / "small.pt").write_bytes(b"other weights")
    return workplace


def test_a_list_of_checkpoints_is_read_relative_to_the_study(two: Path) -> None:
    spec = _spec(two, "[best.pt, small.pt]", name="both")
    assert spec.models == (str(two / "best.pt"), str(two / "small.pt"))
    assert (spec.model, spec.base_names) == (str(two / "best.pt"), ("best", "small"))
    alone = spec.of_base(1)
    assert (alone.models, alone.run_name) == ((str(two / "small.pt"),), "both")
    assert load_spec(None, {"model": ["best.pt", "small.pt"], "data": "data.yaml"}).models == spec.models


def test_a_list_of_one_is_the_same_study_as_its_one_model(two: Path) -> None:
    plain, listed = _spec(two, "best.pt"), _spec(two, "[best.pt]")
    assert plain.resolved() == listed.resolved() and plain.resolved()["model"] == str(two / "best.pt")
    assert plain.of_base(0) is plain
    prints = fingerprint(plain)
    assert prints.keys() == {"kind", "model"}
    assert comparable(plain.resolved(), prints).keys() >= {"model", "modules", "data"}
    assert "model 2" not in comparable(plain.resolved(), prints)


def test_the_resolved_study_is_read_again_as_it_was(two: Path) -> None:
    spec = _spec(two, "[best.pt, small.pt]")
    (two / "args.yaml").write_text(yaml.safe_dump(spec.resolved()))
    assert load_spec(two / "args.yaml").models == spec.models


def test_every_base_makes_trials_comparable(two: Path) -> None:
    spec = _spec(two, "[best.pt, small.pt]")
    before = comparable(spec.resolved(), fingerprint(spec))
    (two / "small.pt").write_bytes(b"trained further")
    after = comparable(spec.resolved(), fingerprint(spec))
    assert {key for key in before if before[key] != after[key]} == {"model 2"}
    turned = _spec(two, "[small.pt, best.pt]")
    assert comparable(turned.resolved(), fingerprint(turned)) != after, "the first is the reference"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("[]", "study.yaml line 1: model: expected a checkpoint, or several"),
        ("[best.pt, best.pt]", "is there twice"),
        ("[best.pt, none.pt]", "line 1: model: no such file"),
        ("[best.pt, own.py:build]", "several bases are checkpoints of Ultralytics"),
        ("[best.pt, 5]", "line 1: model[1]: input should be a valid string"),
        ("5", "line 1: model: input should be a valid string, found 5"),
        (f"[best.pt, {', '.join(f'{n}.pt' for n in range(8))}]", "9 bases; expected at most 8"),
    ],
)
def test_what_cannot_be_bases_is_refused(two: Path, model: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _spec(two, model)
    assert expected in str(caught.value) and caught.value.exit_code == 2


def test_a_sampler_of_ratios_only_does_not_choose_a_base(two: Path) -> None:
    keys = {"search.sampler": "cmaes", "objectives": ["map50_95"]}
    with pytest.raises(ConfigError, match="cmaes knows ratios only, not several bases"):
        _spec(two, "[best.pt, small.pt]", **keys)


def test_bases_have_short_names_that_differ() -> None:
    assert base_names(["/m/yolov8s.pt", "/m/yolov8n.pt"]) == ("yolov8s", "yolov8n")
    runs = [f"/runs/{name}/weights/best.pt" for name in ("train", "train2")]
    assert base_names([*runs, "/m/yolov8n.pt"]) == ("train-best", "train2-best", "yolov8n")
    assert base_names(["/a/best.pt", "/a/best.onnx.pt", "/b/best.pt"]) == ("a-best", "best.onnx", "b-best")


@pytest.mark.parametrize(
    ("first", "other", "expected"),
    [
        (("detect", ("a", "b")), ("segment", ("a", "b")), "s.pt is a detect model, n.pt a segment model"),
        (("detect", ("a", "b")), ("detect", ("a",)), "s.pt is a model of 2 classes, n.pt one of 1"),
        (("detect", ("a", "b")), ("detect", ("a", "c")), "a model whose class 1 is b, n.pt one where it is c"),
    ],
)
def test_bases_of_other_tasks_or_classes_are_refused(
    first: tuple[str, tuple[str, ...]], other: tuple[str, tuple[str, ...]], expected: str
) -> None:
    facts = [ModelOutputs(task, classes=classes) for task, classes in (first, other)]
    with pytest.raises(ConfigError, match=expected):
        check_same("/m/s.pt", "/m/n.pt", *facts)
    check_same("/m/s.pt", "/m/n.pt", facts[0], ModelOutputs(facts[0].task))


def test_classes_are_compared_before_a_model_is_loaded(tiny: Path, tmp_path: Path) -> None:
    for name in ("base.pt", "other.pt"):
        shutil.copy(tiny / name, tmp_path)
    models = [str(tmp_path / "base.pt"), str(tmp_path / "other.pt")]
    with pytest.raises(ConfigError, match=r"base\.pt is a model of 2 classes, other\.pt one of 3") as caught:
        load_spec(None, {"model": models, "data": str(tiny / "data" / "data.yaml")})
    assert caught.value.exit_code == 2
