"""A run that version 0.1.0 (commit 4fd6a92) made opens, and goes on when one says so.

The folder beside this file was made by that version: a study of the known front with 12 trials, whose process was cut
in the middle of trial 8.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from search.errors import NotComparable
from search.present.health import health
from search.study import Parts, Study
from search.testing.known_front import KnownFront, KnownFrontEvaluator
from search.testing.simulated import InlineEngine, SimulatedClock
from tests.search.conftest import run
from tests.search.hearing import noting

MADE = Path(__file__).with_name("run-0.1.0")
RUN = "runs/prune/known"
MADE_IN = "/tmp/study"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run where it was made, with the model and data that it was made with."""
    shutil.copytree(MADE, tmp_path / RUN)
    args = tmp_path / RUN / "args.yaml"
    args.write_text(args.read_text().replace(MADE_IN, str(tmp_path)))
    (tmp_path / "best.pt").write_bytes(b"weights")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "one.png").write_bytes(b"pixels")
    (tmp_path / "data.yaml").write_text("path: .\ntrain: images\nval: images\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _loaded(mix_versions: bool = False) -> Study:
    clock, measuring = SimulatedClock(), KnownFrontEvaluator()
    parts = Parts(
        prepare=KnownFront(measuring),
        engine=lambda spec, prepared: InlineEngine(clock, spec.search.workers),
        clock=clock,
    )
    return Study.load(RUN, parts=parts, mix_versions=mix_versions)


def test_it_opens() -> None:
    study = _loaded()
    assert [trial.state.value for trial in study.trials()] == ["complete"] * 8 + ["stopped"]
    assert study.front()
    for words in (("status", RUN), ("ls", RUN), ("show", f"{RUN}:0"), ("report", RUN)):
        found = run(*words)
        assert found.exit_code == 0, found.output


def test_it_goes_on_only_when_one_says_so() -> None:
    with pytest.raises(NotComparable, match=r"paretoprune: 0\.1\.0 in the run") as refused:
        _loaded().search()
    assert f"{RUN} --mix-versions" in str(refused.value)
    assert run("resume", RUN).exit_code == 5


def test_it_is_told_apart_by_its_fingerprint_and_not_called_other_data(place: Path) -> None:
    """Its fingerprint has names and sizes of images, which say nothing of their contents."""
    (place / "images" / "one.png").write_bytes(b"pixels of another size")
    notes: list[str] = []
    _loaded(mix_versions=True).search([noting(notes)])
    assert [note for note in notes if "names and sizes of images only" in note]
    notes.clear()
    _loaded().search([noting(notes)])
    assert not [note for note in notes if "names and sizes" in note]
    (place / "best.pt").write_bytes(b"other weights")
    with pytest.raises(NotComparable, match="model: content"):
        _loaded().search()


def test_it_goes_on() -> None:
    before = {trial.number: (trial.candidate, trial.measurement) for trial in _loaded().trials() if trial.measurement}
    begun = (MADE / "trials" / "0008" / "candidate.json").read_text()
    study = _loaded(mix_versions=True).search()
    after = {trial.number: (trial.candidate, trial.measurement) for trial in study.trials()}
    assert sorted(after) == list(range(12))
    assert study.spec.recover.spend == _loaded().spec.recover.spend == "equal", "as its first trials were trained"
    assert {number: after[number] for number in before} == before
    assert Path(RUN, "trials", "0008", "candidate.json").read_text() == begun
    snapshot = study.snapshot()
    assert snapshot["environment"]["other versions"].startswith("paretoprune 0.1.0")
    assert "versions" in [finding["kind"] for finding in health(snapshot)]
    assert _loaded().search().trials() == study.trials()  # the run is this version's from here
