"""How a session begins: a stop while it prepares, and a folder in which an earlier start failed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from search.config.spec import StudySpec
from search.errors import Interrupted, NotComparable
from search.prepare.prepared import Prepared
from search.run_folder.record import RunRecord
from search.study import Parts, Study
from search.testing.known_front import KnownFront
from search.testing.simulated import InlineEngine
from tests.search.conftest import MakeStudy, run

CACHES = (
    *("sensitivity/curves.json", "sensitivity/variants.json", "latency/probes.json", "latency/model.json"),
    *("latency/layers.json", "latency/0123456789abcdef.json", "base/base.json", "base/groups.json", "base/base.onnx"),
    *("base/whatif.json", "base/scores-taylor.npz", "base/samples/0.jpg"),
)


@dataclass(frozen=True)
class Interfering:
    """The known front, whose preparation does something else first, and says nothing itself."""

    first: Callable[[RunRecord, Callable[[str], None]], object]

    def __call__(self, spec: StudySpec, record: RunRecord, say: Callable[[str], None] = lambda text: None) -> Prepared:
        self.first(record, say)
        return KnownFront()(spec, record)


def study_that(first: Callable[[RunRecord, Callable[[str], None]], object], **overrides: Any) -> Study:
    def engine(spec: StudySpec, prepared: Prepared) -> InlineEngine[Any]:
        return InlineEngine()

    return Study("study.yaml", parts=Parts(prepare=Interfering(first), engine=engine), **overrides)


def stop_now(record: RunRecord, say: Callable[[str], None]) -> None:
    assert "asked pid" in run("stop", str(record.path)).stdout
    say("measuring the base: latency")
    raise AssertionError("the preparation went on")


def stop_at_the_last_moment(record: RunRecord, say: Callable[[str], None]) -> None:
    record.request_stop()


@pytest.mark.parametrize("how", [stop_now, stop_at_the_last_moment])
def test_a_stop_while_the_search_prepares_ends_it(
    how: Callable[[RunRecord, Callable[[str], None]], object], make_study: MakeStudy, workplace: Path
) -> None:
    study = study_that(how, **{"search.trials": 3})
    with pytest.raises(Interrupted, match="stopped") as caught:
        study.search()
    assert caught.value.exit_code == 130 and f"paretoprune resume {study.record.path}" in str(caught.value)
    assert study.record.args_path.is_file() and not study.trials() and not study.record.stop_path.exists()
    assert len(make_study(**{"search.trials": 3}).search().trials()) == 3


def test_a_stop_while_baselines_prepare_ends_them(make_study: MakeStudy) -> None:
    make_study(**{"search.trials": 3}).search()
    study = study_that(stop_now, **{"search.trials": 3})
    with pytest.raises(Interrupted, match="paretoprune baselines"):
        study.measure_baselines(["uniform"])
    assert not (study.record.path / "baselines").exists()


def test_a_stop_of_an_earlier_session_does_not_end_this_one(make_study: MakeStudy) -> None:
    study = make_study(**{"search.trials": 2})
    study.record.request_stop()
    assert len(study.search().trials()) == 2 and not study.record.stop_path.exists()
    study.record.request_stop()
    assert study.prepare().base and not study.record.stop_path.exists()


def leave_caches(record: RunRecord, say: Callable[[str], None]) -> None:
    for name in CACHES:
        (record.path / name).parent.mkdir(parents=True, exist_ok=True)
        (record.path / name).write_text("{}")
    (record.base_dir / "prepare.log").write_text("Traceback")
    (record.base_dir / "best.pt").write_bytes(b"a file that the user has there")
    raise RuntimeError("died in probes")


def test_what_a_failed_start_prepared_is_not_used_by_the_next(workplace: Path) -> None:
    """The next may be of another size, runtime, criterion or model, and these files do not say of which they are."""
    left: list[str] = []

    def look(record: RunRecord, say: Callable[[str], None]) -> None:
        left.extend(str(path.relative_to(record.path)) for path in record.path.rglob("*") if path.is_file())

    with pytest.raises(RuntimeError, match="died in probes"):
        study_that(leave_caches, imgsz=1280).search()
    study = study_that(look, imgsz=640, **{"search.trials": 2}).search()
    assert not set(CACHES) & set(left)
    assert {"base/prepare.log", "base/best.pt", "search.log"} <= set(left)
    assert len(study.trials()) == 2


def test_what_an_interrupted_start_prepared_is_used(workplace: Path) -> None:
    """Its args.yaml says of which study it is, and another one is refused."""

    def interrupted(record: RunRecord, say: Callable[[str], None]) -> None:
        (record.path / "sensitivity").mkdir()
        (record.path / "sensitivity" / "curves.json").write_text("{}")
        record.request_stop()
        say("measuring")

    def look(record: RunRecord, say: Callable[[str], None]) -> None:
        assert (record.path / "sensitivity" / "curves.json").is_file()

    with pytest.raises(Interrupted):
        study_that(interrupted).search()
    assert len(study_that(look, **{"search.trials": 2}).search().trials()) == 2
    with pytest.raises(NotComparable, match="imgsz: 640 in the run, 320 now"):
        study_that(look, imgsz=320).search()


def test_a_run_for_a_target_goes_on_though_its_pack_has_changed(make_study: MakeStudy, workplace: Path) -> None:
    """`resume` does, with what the run recorded; a study that would now mean something else is refused."""
    pack = workplace / "mine.yaml"
    pack.write_text("device: board\nstudy: {space: {round_to: 16}}\n")
    (workplace / "study.yaml").write_text("model: best.pt\ndata: data.yaml\nname: known\ntarget: mine.yaml\n")
    first = make_study(**{"search.trials": 2}).search()
    pack.write_text("device: board\nstudy: {space: {round_to: 4}}\n")
    with pytest.raises(NotComparable, match=r"space\.round_to: 16 in the run, 4 now") as refused:
        make_study().search()
    assert "paretoprune resume" in str(refused.value.next_command)
    again = Study.load(first.record.path, parts=first._parts, **{"search.trials": 3})
    assert again.spec.space.round_to == 16 and again.spec.target == first.spec.target
    assert len(again.search().trials()) == 3
