"""The pick's folder and the model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.config.budgets import FOLDER_NAME, budget_limits
from search.deliver.model_card import write_model_card
from search.deliver.pick_folder import pick_folder, write_pick
from search.errors import ConfigError, RunCorrupt
from search.export.report import ArtefactCheck, ExportReport, Parity
from search.results import target_device
from search.results.snapshot_reader import UnknownTrial
from tests.search.present.snapshots import build

LINEAGE = {"base model": "a" * 64, "data": "b" * 64, "plan": "c" * 64}
COMMANDS = ["paretoprune search study.yaml", "paretoprune pick runs/prune/drone-5ms --max latency_ms=5"]


@pytest.fixture(scope="module")
def snapshot() -> dict[str, Any]:
    return build(60)


@pytest.fixture
def export() -> ExportReport:
    figures = {"map50_95": 0.4302, "map50": 0.61}
    check = ArtefactCheck(
        "onnx", "int8", "model_int8.onnx", 3_200_000, "d" * 64, 4.2, Parity("val", 4, 1.5, 0.02, 0.01), figures, {},
        0.004, {"p50_ms": 3.21, "ratio": {"value": 0.62, "low": 0.6, "high": 0.64}, "runtime": "onnxruntime"},
        {"peak_mb": 80.0, "runtime_mb": 48.0},
    )  # fmt: skip
    accuracy, versions = {"map50_95": 0.4342}, {"onnx": "1.23.2"}
    return ExportReport(
        "model.pt", "e" * 64, 6_100_000, "data.yaml", 640, "map50_95", accuracy, {}, 0.01, versions, (check,)
    )  # fmt: skip


def test_a_pick_is_its_record_and_its_weights(snapshot: dict[str, Any], tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"weights")
    row = snapshot["trials"][int(snapshot["picks"]["edge"]["trial"])]
    folder = write_pick(tmp_path, "edge", row, weights, bounds={"latency_ms": 5}, sentence="It fits.")
    assert folder == tmp_path / "picks" / "edge"
    assert (folder / "model.pt").read_bytes() == b"weights"
    content = json.loads((folder / "pick.json").read_text())
    assert content["trial"]["id"] == row["id"]
    assert (content["bounds"], content["sentence"]) == ({"latency_ms": 5}, "It fits.")


@pytest.mark.parametrize("budget", ["../x", "", "a/b", ".hidden", "a" * 151, "x\n"])
def test_a_budget_stays_inside_the_run(budget: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be a folder"):
        pick_folder(tmp_path, budget)


@given(st.from_regex(FOLDER_NAME, fullmatch=True), st.from_regex(target_device._NAME, fullmatch=True))
def test_a_budget_that_a_study_may_have_can_be_picked(budget: str, device: str) -> None:
    """Also by the latencies of a device, and also the longest of both."""
    assert budget_limits(budget, {"latency_ms": 5})
    for name in (budget, f"{budget}-on-{device}", f"{budget:x<100}-on-{device:x<40}"):
        assert pick_folder(Path("run"), name) == Path("run") / "picks" / name


def test_no_file_of_an_earlier_pick_stays_beside_the_new_one(tmp_path: Path) -> None:
    """An INT8 pick, then one in float32: model_int8.onnx would be taken for that of model.pt."""
    weights, artefact, folder = tmp_path / "weights.pt", tmp_path / "weights_int8.onnx", tmp_path / "picks" / "edge"
    weights.write_bytes(b"17")
    artefact.write_bytes(b"17 in INT8")

    def pick(point: str, artefact: Path | None) -> set[str]:
        write_pick(tmp_path, "edge", {"id": point}, weights, bounds={}, sentence="", artefact=artefact)
        return {path.name for path in folder.iterdir()}

    assert pick("17", artefact) == {"pick.json", "model.pt", "model_int8.onnx"}
    (folder / "model_openvino_model").mkdir()
    (folder / "finetuned.pt").touch()
    (folder / "model_card.md").touch()
    every = {*pick("17", artefact)}
    assert {"model_int8.onnx", "model_openvino_model", "finetuned.pt"} <= every, "the same trial is picked again"
    assert pick("18", None) == {"pick.json", "model.pt", "model_card.md", "finetuned.pt"}
    (folder / "pick.json").write_text("{torn")
    assert pick("19", artefact) == {"pick.json", "model.pt", "model_card.md", "finetuned.pt", "model_int8.onnx"}


def test_weights_that_are_gone(tmp_path: Path) -> None:
    with pytest.raises(RunCorrupt, match="weights of trial 3 are gone"):
        write_pick(tmp_path, "edge", {"id": "3"}, tmp_path / "absent.pt", bounds={}, sentence="")
    assert not (tmp_path / "picks").exists()


def test_the_card_tells_lineage_and_figures(snapshot: dict[str, Any], export: ExportReport, tmp_path: Path) -> None:
    point = snapshot["picks"]["edge"]["trial"]
    path = write_model_card(
        tmp_path / "model_card.md", snapshot, point, lineage=LINEAGE, commands=COMMANDS, export=export
    )
    card = path.read_text(encoding="utf-8")
    for piece in (
        *LINEAGE.values(),
        *COMMANDS,
        "AGPL-3.0",
        "ultralytics | 8.4.190",
        "onnx | 1.23.2",
        "model\\_int8.onnx",
    ):
        assert piece in card
    row = next(line for line in card.splitlines() if line.startswith("| mAP50-95"))
    trial = snapshot["trials"][int(point)]["figures"]["map50_95"]["value"]
    assert [cell.strip() for cell in row.split("|")[2:3]] == ["0.508"]
    assert f"{trial:.3f}" in row and "0.430" in row
    latency = next(line for line in card.splitlines() if line.startswith("| latency"))
    assert latency.rstrip(" |").endswith("3.21")
    assert "3.21 ms (0.62, onnxruntime) | 80 MB (32) | passed" in card


def test_names_cannot_break_the_card(snapshot: dict[str, Any], tmp_path: Path) -> None:
    attacked = {**snapshot, "name": "x\n# y <script> | `z`"}
    path = write_model_card(tmp_path / "card.md", attacked, "0", lineage={"a|b": "c"}, commands=["echo ```"])
    card = path.read_text(encoding="utf-8")
    assert "<script>" not in card
    assert card.startswith("# x \\# y &lt;script&gt; \\| \\`z\\`, trial 0\n")
    assert "a\\|b" in card and "````sh\necho ```\n````" in card


def test_a_card_of_a_trial_that_is_not_there(snapshot: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UnknownTrial):
        write_model_card(tmp_path / "card.md", snapshot, "999", lineage={}, commands=[])
