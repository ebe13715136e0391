"""The three training traps on a small network; the size that was reached on the large one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studies.yolov8x_half import half

STUDY = Path(half.__file__).parent


@pytest.mark.filterwarnings("ignore")  # plain Ultralytics training is part of what is shown
def test_the_traps_are_there_and_ours_avoids_them(tmp_path: Path) -> None:
    asked = half.Settings(model="yolov8n.yaml", cost_size=64, scenes=8)
    facts = half.run(asked, tmp_path)
    before, after, counted = facts["params"]
    assert after == counted < 0.5 * before and facts["macs_g"][1] < 0.5 * facts["macs_g"][0]
    assert facts["plain_training"]["params"] == before, "plain Ultralytics no longer rebuilds: the README is wrong"
    ours = facts["our_training"]
    assert ours["params"] == after and ours["moved"] > 0
    assert max(facts["half_precision"], ours["memory_to_file"]) < 0.02
    assert facts["onnx"]["relative_difference"] < 1e-3


def test_the_file_is_worth_what_the_network_was() -> None:
    """On trained weights, as committed: half.py --trained."""
    facts = json.loads((STUDY / "trained.json").read_text())
    assert facts["file_dtype"] == "torch.float16" and facts["memory_to_file"] < 0.002
    assert facts["map50_95_file"] == pytest.approx(facts["map50_95_memory"], abs=0.002)
    page = (STUDY / "README.md").read_text()
    assert f"{facts['map50_95_file']:.4f}" in page and f"{100 * facts['memory_to_file']:.2f} %" in page


def test_the_published_size_was_reached() -> None:
    if not (STUDY / "results.json").is_file():
        assert "not run yet" in (STUDY / "README.md").read_text()
        return
    facts = json.loads((STUDY / "results.json").read_text())
    (base_macs, macs), (base_params, params) = half.PUBLISHED["macs_g"], half.PUBLISHED["params"]
    assert facts["params"][0] == base_params and facts["macs_g"][0] == pytest.approx(base_macs, rel=0.01)
    assert facts["params"][1] <= params and facts["macs_g"][1] <= macs
    assert facts["our_training"]["params"] == facts["params"][1]
    assert f"{facts['params'][1]:,}" in (STUDY / "README.md").read_text()
