"""Whatever is wrong with a study: one message, the documented exit code, no traceback, nothing left behind."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.search.conftest import run

Change = Callable[[Path], object]


def _cut(place: Path) -> None:
    whole = (place / "base.pt").read_bytes()
    (place / "base.pt").write_bytes(whole[: len(whole) // 2])


def _without(folder: str) -> Change:
    return lambda place: shutil.rmtree(place / "data" / folder)


def _emptied(place: Path) -> None:
    for image in (place / "data" / "images").rglob("*.png"):
        image.unlink()


CASES: dict[str, tuple[Change, str, int, str]] = {
    "missing checkpoint": (lambda p: (p / "base.pt").unlink(), "", 2, "no such file"),
    "truncated checkpoint": (_cut, "", 2, "damaged or not a PyTorch checkpoint"),
    "text as checkpoint": (lambda p: (p / "base.pt").write_text("hello"), "", 2, "not a PyTorch checkpoint"),
    "other classes": (lambda p: None, "model=other.pt", 2, "the model has 3 classes"),
    "missing data": (lambda p: None, "data=gone.yaml", 2, "no such file"),
    "data that is no YAML": (lambda p: (p / "data/data.yaml").write_text("a: ["), "", 2, "is not YAML"),
    "data without names": (lambda p: (p / "data/data.yaml").write_text("path: .\n"), "", 2, "key missing"),
    "no validation folder": (_without("images/val"), "", 2, "images not found, missing path"),
    "no training folder": (_without("images/train"), "", 2, "images/train does not exist"),
    "empty data set": (_emptied, "", 2, "has no validation images"),
    "unknown key": (lambda p: None, "search.trails=3", 2, "did you mean trials?"),
    "unknown training key": (lambda p: None, "recover.epoch=3", 2, "did you mean epochs?"),
    "ratio of one": (lambda p: None, "space.ratio=[0, 1.0]", 2, "0 to below 1"),
    "size": (lambda p: None, "imgsz=100", 2, "not a multiple of 32"),
    "objective": (lambda p: None, "objectives=[map50_95, latency]", 2, "Did you mean latency_ms"),
    "group": (lambda p: None, "space.groups=[modle.4.*]", 2, "no group matches 'modle.4.*'"),
    "ignored group": (lambda p: None, "space.ignore=[model.4.cv3]", 2, "did you mean: model.4.cv2"),
    "engine": (lambda p: None, "search.engine=slurm", 2, "'optuna' or 'ray'"),
    "device": (lambda p: None, "device=97", 4, "there is no GPU 97"),
    "runtime": (lambda p: None, "latency.runtime=tensorrt", 4, "pip install tensorrt"),
    "program": (lambda p: None, "latency.runtime=command:./nowhere.sh", 4, "name a program that is there"),
    "folder that cannot be made": (lambda p: (p / "runs").write_text("a file"), "", 2, "cannot be written"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_search_that_cannot_start(
    name: str,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change, word, code, expected = CASES[name]
    if name == "runtime" and importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("tensorrt is installed")
    place = tmp_path / "place"
    shutil.copytree(tiny, place)
    (place / "data/data.yaml").write_text((tiny / "data/data.yaml").read_text().replace(str(tiny), str(place)))
    change(place)
    monkeypatch.chdir(place)
    before = _listing(place)
    words = ["model=base.pt", "data=data/data.yaml", "imgsz=64", "name=bad", "search.trials=1"]
    words = [w for w in words if w.partition("=")[0] != word.partition("=")[0]] + ([word] if word else [])
    result = run("search", *words)
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("error: ") and expected in result.stderr, result.stderr
    assert result.stderr.count("error: ") == 1 and "Traceback" not in result.output
    assert _listing(place) == before


def _listing(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.suffix != ".cache")
