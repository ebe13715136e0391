"""What a reader leaves in a run: notes, pins, requests for trials, and the message in the morning."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from search.callbacks.notify import notify
from search.config.sections import KeepSpec
from search.errors import Interrupted, RunCorrupt, SearchFailing
from search.orchestration.weight_retention import discard
from search.run_folder.annotations import Mark, read_marks, write_mark
from search.run_folder.enqueue import Requests, leave_request, waiting
from search.run_folder.record import RunRecord
from search.run_folder.weights import FILE
from search.study import Study
from search.testing.known_front import DIMENSIONS, FailingEvaluator
from search.trial import Candidate, PointId
from tests.search.hearing import after_trials

WISH = Candidate(dict.fromkeys(DIMENSIONS, 0.33))
THIRD = PointId(3)


def points(*numbers: int) -> list[PointId]:
    return list(map(PointId, numbers))


def test_marks_are_set_and_taken_away(tmp_path: Path) -> None:
    assert read_marks(tmp_path) == {}
    write_mark(tmp_path, THIRD, Mark("good", True))
    write_mark(tmp_path, PointId(5, "int8"), Mark("bad"))
    write_mark(tmp_path, THIRD, Mark())
    assert read_marks(tmp_path) == {PointId(5, "int8"): Mark("bad", False)}


def test_marks_beside_exports_are_read_by_the_numbers_that_these_had(tmp_path: Path) -> None:
    rows = {"3": "a trial", "10000030": "fp32", "10000031": "fp16", "10000032": "int8", "10000039": "nothing"}
    content = {"trials": {name: {"note": note, "pinned": False} for name, note in rows.items()}}
    (tmp_path / "marks.json").write_text(json.dumps(content))
    notes = {str(point): mark.note for point, mark in read_marks(tmp_path).items()}
    assert notes == {"3": "a trial", "3-fp32": "fp32", "3-fp16": "fp16", "3-int8": "int8", "10000039": "nothing"}
    write_mark(tmp_path, PointId(3, "fp32"), Mark())
    assert json.loads((tmp_path / "marks.json").read_text())["trials"].keys() == notes.keys() - {"3-fp32"}


def test_a_note_has_an_end(tmp_path: Path) -> None:
    write_mark(tmp_path, THIRD, Mark("x" * 9000))
    assert len(read_marks(tmp_path)[THIRD].note) == 2000


def weights_of(record: RunRecord, numbers: range) -> list[int]:
    for number in numbers:
        (record.trial_dir(number) / FILE).write_bytes(b"w" * 1000)
    return list(numbers)


def left(record: RunRecord) -> list[int]:
    return sorted(int(path.parent.name) for path in record.path.glob(f"trials/*/{FILE}"))


def test_a_pinned_trial_keeps_its_weights_whatever_the_room(workplace: Path, make_study: Callable[..., Study]) -> None:
    study = make_study(**{"search.trials": 8}).search()
    record, front, off = study.record, points(0, 1, 2), 5
    write_mark(record.path, PointId(off), Mark(pinned=True))
    weights_of(record, range(8))
    discard(record, study.trials(), front, KeepSpec(weights="front"))
    assert left(record) == [0, 1, 2, off]
    discard(record, study.trials(), front, KeepSpec(weights="front", max_gb=2.5e-6))
    assert off in left(record) and len(left(record)) == 2, "the pinned one counts, and stays"
    discard(record, study.trials(), front, KeepSpec(weights="none"))
    assert left(record) == [off]


def test_the_front_keeps_its_weights_whatever_the_room(workplace: Path, make_study: Callable[..., Study]) -> None:
    study = make_study(**{"search.trials": 8}).search()
    record, keep = study.record, KeepSpec(weights="all", max_gb=4.5e-6)
    write_mark(record.path, PointId(5), Mark(pinned=True))
    weights_of(record, range(8))
    discard(record, study.trials(), points(0, 1, 2, 3), keep, front=points(1, 2))
    assert left(record) == [1, 2, 3, 5], "what is far off goes first, then what is near"
    discard(record, study.trials(), points(0, 1, 2, 3), KeepSpec(weights="all", max_gb=1e-9), front=points(1, 2))
    assert left(record) == [1, 2, 5]


def test_weights_that_a_killed_process_left_beside_a_repeat_go_when_the_run_goes_on(
    workplace: Path, make_study: Callable[..., Study]
) -> None:
    record = make_study(**{"search.trials": 2}).search().record
    weights_of(record, [1])
    (kept := record.trial_dir(1) / f"{Path(FILE).stem}_int8.onnx").write_bytes(b"w")
    left_over = [record.path / "confirm" / "0001-1", record.path / "baselines" / "int8"]
    for folder in left_over:
        folder.mkdir(parents=True)
        for name in ("result.json.note", FILE, kept.name):
            (folder / name).write_bytes(b"w")
    make_study(**{"search.trials": 2}).search()
    assert [[path.name for path in folder.iterdir()] for folder in left_over] == [["result.json.note"]] * 2
    assert kept.is_file(), "a trial's own stay"


def test_marks_that_cannot_be_read_delete_nothing(workplace: Path, make_study: Callable[..., Study]) -> None:
    study = make_study(**{"search.trials": 4}).search()
    weights_of(study.record, range(4))
    (study.record.path / "marks.json").write_text("{torn")
    with pytest.raises(RunCorrupt):
        read_marks(study.record.path)
    discard(study.record, study.trials(), [], KeepSpec(weights="none"))
    assert left(study.record) == [0, 1, 2, 3]


def test_a_request_is_measured_before_any_other_candidate(workplace: Path, make_study: Callable[..., Study]) -> None:
    study = make_study(**{"search.trials": 4})
    leave_request(study.record.path, WISH)
    trials = study.search().trials()
    assert trials[0].source == "user" and trials[0].candidate == WISH
    plain = make_study(name="plain", **{"search.trials": 3}).search().trials()
    assert [trial.candidate for trial in trials[1:]] == [trial.candidate for trial in plain], (
        "the opening loses nothing"
    )
    assert waiting(study.record.path) == 0


def test_a_request_waits_until_the_search_is_resumed(workplace: Path, make_study: Callable[..., Study]) -> None:
    study = make_study(**{"search.trials": 3}).search()
    leave_request(study.record.path, WISH)
    assert waiting(study.record.path) == 1
    trials = make_study(**{"search.trials": 4}).search().trials()
    assert trials[3].candidate == WISH and waiting(study.record.path) == 0


def test_what_is_no_request_is_set_aside_and_the_search_goes_on(
    workplace: Path, make_study: Callable[..., Study]
) -> None:
    study = make_study(**{"search.trials": 3})
    folder = study.record.path / "enqueue"
    folder.mkdir(parents=True)
    (folder / "torn.json").write_text("{")
    (folder / "list.json").write_text("[]")
    (folder / "empty.json").write_text("{}")
    leave_request(study.record.path, Candidate(dict.fromkeys(DIMENSIONS, 0.99)))
    leave_request(study.record.path, Candidate({"stem": 0.1}))
    trials = study.search().trials()
    assert len(trials) == 3 and {trial.source for trial in trials} == {"opening"}
    assert sorted(path.name for path in folder.iterdir()) == ["empty.refused", "list.refused", "torn.refused"]


def test_requests_come_oldest_first(tmp_path: Path) -> None:
    names = [leave_request(tmp_path, WISH) for _ in range(3)]
    assert [request.name for request in Requests(tmp_path)] == names


def test_the_message_comes_when_the_search_has_finished(workplace: Path, make_study: Callable[..., Study]) -> None:
    line = "cat > told.txt; echo $PARETOPRUNE_STATE $PARETOPRUNE_NAME >> told.txt"
    make_study(**{"search.trials": 4, "notify.command": line}).search()
    told = (workplace / "told.txt").read_text().splitlines()
    assert told[0].startswith("known has finished: 4 of 4 trials") and told[-1] == "finished known"


def test_a_message_that_cannot_be_sent_fails_nothing(workplace: Path, make_study: Callable[..., Study]) -> None:
    study = make_study(**{"search.trials": 2, "notify.command": "echo no route >&2; exit 3"}).search()
    assert study.state() == "finished"
    assert "no route" in (study.record.path / "search.log").read_text()
    assert not notify("exit 1", workplace, "finished", "text")


def test_what_a_command_says_may_be_any_bytes(workplace: Path, make_study: Callable[..., Study]) -> None:
    line = "cat > /dev/null; printf '\\377'; printf '\\377' >&2; exit 3"
    study = make_study(**{"search.trials": 2, "notify.command": line}).search()
    assert study.state() == "finished"
    assert "notify.command ended with 3: \ufffd" in (study.record.path / "search.log").read_text()


def test_a_secret_in_the_command_is_in_no_file_that_is_shown(
    workplace: Path, make_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.callbacks.notify.TIMEOUT_S", 0.2)
    line = "sleep 2 # https://hooks.example.org/T0/hunter2"
    study = make_study(**{"search.trials": 2, "notify.command": line}).search()
    study.report()
    files = [path for path in study.record.path.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    assert files == [study.record.args_path], "a resumed run sends it again"
    assert study.record.args_path.stat().st_mode & 0o777 == 0o600
    assert "took longer" in (study.record.path / "search.log").read_text()
    plain = make_study(name="plain", **{"search.trials": 2}).search()
    assert plain.record.args_path.stat().st_mode & 0o777 == 0o644, "others may look at a run without a secret"


@pytest.mark.parametrize(
    "line",
    [
        "echo no route to https://hooks.example.org/T0/hunter2 >&2; exit 3",
        "set -- 'https://hooks.example.org/T0/hunter2'; echo \"no route to ${1#https:}\" >&2; exit 3",
        "URL=https://me:hunter2@example.org; echo no route to $URL >&2; exit 3",
    ],
)
def test_a_failed_command_repeats_no_address(line: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not notify(line, tmp_path, "finished", "text")
    assert "no route to" in caplog.text and "..." in caplog.text and "hunter2" not in caplog.text


def test_who_is_told_may_change_on_resume(workplace: Path, make_study: Callable[..., Study]) -> None:
    make_study(**{"search.trials": 2}).search()
    make_study(**{"search.trials": 3, "notify.command": "true"}).search()


def test_a_corrupt_mark_is_named(tmp_path: Path) -> None:
    (tmp_path / "marks.json").write_text(json.dumps([]))
    with pytest.raises(RunCorrupt, match=r"marks\.json"):
        read_marks(tmp_path)


def test_a_search_that_gives_up_tells_too(workplace: Path, make_study: Callable[..., Study]) -> None:
    failing = FailingEvaluator(dict.fromkeys(range(9), "raise"))
    with pytest.raises(SearchFailing):
        make_study(failing, **{"search.trials": 9, "notify.command": "cat > told.txt"}).search()
    assert "5 failed" in (workplace / "told.txt").read_text()


def test_who_interrupts_knows(workplace: Path, make_study: Callable[..., Study]) -> None:
    study = make_study(**{"search.trials": 9, "notify.command": "touch told.txt"})
    with pytest.raises(Interrupted):
        study.search([after_trials(lambda trial: study.stop())])
    assert not (workplace / "told.txt").exists()
