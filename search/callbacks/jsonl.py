"""events.jsonl: one line of JSON an event, for `tail -f`, `jq` and programs of one's own."""

from __future__ import annotations

import json
from collections import deque
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.callbacks.callback import Callback
from search.run_folder.disk import is_full
from search.trial import Trial, figures_to_json

if TYPE_CHECKING:
    from search.study import Study

FILE = "events.jsonl"


class JsonLines(Callback):
    """Appends to events.jsonl of the run: event, time (ISO 8601 with its zone), and what the event has to say.

    A line for which the disk has no room is written with the next one.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / FILE
        self._held = deque[str]()

    def on_search_start(self, study: Study) -> None:
        base = study.base()
        figures = {} if base is None else figures_to_json(base.figures)
        self._write("search_start", run=str(study.record.path), base=figures)

    def on_trial_start(self, study: Study, trial: Trial) -> None:
        self._write("trial_start", trial=trial.number, source=trial.source, candidate=trial.candidate.to_json())

    def on_trial_end(self, study: Study, trial: Trial) -> None:
        figures = {} if trial.measurement is None else figures_to_json(trial.figures)
        self._write(
            "trial_end",
            trial=trial.number,
            state=trial.state.value,
            figures=figures,
            same_as=trial.same_as,
            error=trial.error,
            seconds=trial.seconds_total,
        )

    def on_front_changed(self, study: Study, front: tuple[Trial, ...]) -> None:
        self._write("front_changed", front=[str(trial.id) for trial in front])

    def on_search_end(self, study: Study, error: BaseException | None) -> None:
        self._write("search_end", state=study.state(), error=None if error is None else type(error).__name__)

    def _write(self, event: str, **said: Any) -> None:
        """Append a line in one write, after those held back; one that a crash or a full disk has torn is closed."""
        now = datetime.now().astimezone().isoformat(timespec="milliseconds")
        self._held.append(json.dumps({"event": event, "time": now, **said}) + "\n")
        try:
            self._append_held()
        except OSError as error:
            if not is_full(error):
                raise

    def _append_held(self) -> None:
        with self.path.open("ab+") as file:
            if file.tell():
                file.seek(-1, 2)
                if file.read() != b"\n":
                    file.write(b"\n")
            while self._held:
                file.write(self._held[0].encode())
                file.flush()
                self._held.popleft()
