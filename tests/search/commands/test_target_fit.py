"""From which ratio on a network fits: the smallest, counted on the network that `prune` makes with it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from objectives.weights import kernel_weights
from search.commands.target_fit import fit_of, smallest_ratio
from search.config.spec import StudySpec, load_spec
from search.config.targets.limits import Network
from search.present.terminal.target import fit_sentence
from search.space import Space
from tests.pruning import zoo
from tests.search.conftest import run

CONSTANTS = Network(constants=5).constants_mb(64)


@pytest.mark.parametrize(
    ("limit", "most", "expected"),
    [(1.0, 0.8, 0.0), (0.5, 0.8, 0.5), (0.493, 0.8, 0.51), (0.2, 0.8, 0.8), (0.1, 0.8, None), (0.5, 0.505, 0.5)],
)
def test_the_smallest_multiple_of_a_hundredth_is_found(limit: float, most: float, expected: float | None) -> None:
    asked: list[float] = []

    def weights(ratio: float) -> float:
        asked.append(ratio)
        return 1 - ratio

    ratio, left = smallest_ratio(weights, limit + 1e-9, most)
    assert ratio == expected and left == pytest.approx(1 - (most if expected is None else expected))
    assert len(asked) <= 8, "by bisection"


def fit(spec: StudySpec) -> dict[str, Any]:
    model, graph = zoo.build("yolov8n.yaml"), zoo.traced("yolov8n.yaml")
    space = Space.from_graph(graph, spec.searched_space, spec.sizes)
    found = fit_of(spec, "yolov8n", SimpleNamespace(model=model, graph=graph, space=space, scores="l2"))
    assert found is not None
    return found


def weights_mb(ratio: float, round_to: int) -> float:
    plan = zoo.traced("yolov8n.yaml").plan(ratio, "l2", round_to)
    return kernel_weights(plan.apply(zoo.build("yolov8n.yaml"))) / 1e6 + CONSTANTS


@pytest.mark.parametrize("round_to", [8, 32])
def test_the_ratio_is_that_of_a_plan_rounded_as_the_study_rounds(workplace: Path, round_to: int) -> None:
    spec = load_spec(workplace / "study.yaml", {"target": "imx500", "imgsz": 64, "space.round_to": round_to})
    found = fit(spec)
    assert found["limit_mb"] == 2.5505408 and 0.1 < found["ratio"] < 0.4
    assert found["mb"] == pytest.approx(weights_mb(found["ratio"], round_to)) and found["mb"] <= 2.5505408
    assert weights_mb(found["ratio"] - 0.01, round_to) > 2.5505408, "the next smaller one is too large"


@pytest.mark.parametrize(
    ("target", "words", "said"),
    [
        ("coral", {}, "yolov8n fits the IMX500 as it is: 3.146 of 8.000 MB"),
        (
            "imx500",
            {"space.ratio": [0.0, 0.02]},
            "yolov8n does not fit the IMX500, even at the largest ratio of the study",
        ),
    ],
)
def test_a_base_that_fits_and_one_that_never_does(
    workplace: Path, target: str, words: dict[str, Any], said: str
) -> None:
    spec = load_spec(workplace / "study.yaml", {"target": target, "imgsz": 64, **words})
    assert fit_sentence(fit(spec), "IMX500").startswith(said)


def test_the_sentence_says_from_where_on() -> None:
    row = {"base": "yolov8s", "ratio": 0.57, "mb": 2.228752, "limit_mb": 2.5505408}
    assert fit_sentence(row, "IMX500") == "yolov8s fits the IMX500 from ratio 0.57 on: 2.229 of 2.551 MB"


@pytest.mark.slow
def test_check_says_it_of_a_real_study(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = (f"model={tiny / 'base.pt'}", f"data={tiny / 'data' / 'data.yaml'}", "imgsz=64", "latency.seconds=0.3")
    done = run("check", *words, "recover.epochs=0", "target=imx500", "-f", "json")
    assert done.exit_code == 0, done.output
    target = json.loads(done.stdout)["target"]
    (row,) = target["fits"]
    assert target["name"] == "imx500" and row["base"] == "base" and 0.05 < row["ratio"] < 0.2
    assert row["mb"] <= row["limit_mb"] and "stand-in" in target["measured"][0]
