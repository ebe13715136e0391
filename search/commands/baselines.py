"""`paretoprune baselines RUN NAME... sibling=small.pt train=yolov8n.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from search.commands.progress import following
from search.config.baseline_names import NAMES, SIBLING, TRAIN, row_fault, training_located
from search.errors import ConfigError
from search.references import find_run
from search.results.schema import Snapshot
from search.study import Study


def measure_named(words: Sequence[str], console: Console) -> Snapshot:
    """Measure the named baselines, or those of the study; return the snapshot.

    Raises:
        ConfigError: no such run, baseline or file.
    """
    run, named = split_rows(words)
    study = Study.load(find_run(run))
    with following(study, console) as shown:
        study.measure_baselines(named or study.spec.baseline_rows, [shown])
    return study.snapshot()


def split_rows(words: Sequence[str]) -> tuple[str | None, tuple[str, ...]]:
    """Return (run, names of baselines); the run comes first and is optional.

    Raises:
        ConfigError: an unknown baseline, with the nearest name; a sibling that is no file.
    """
    rows = [word.replace("=", ":", 1) if word.startswith(("sibling=", "train=")) else word for word in words]
    has_run = bool(rows) and rows[0] not in NAMES and not rows[0].startswith((SIBLING, TRAIN))
    run, named = (rows[0], rows[1:]) if has_run else (None, rows)
    return run, tuple(map(_checked, named))


def _checked(text: str) -> str:
    if (fault := row_fault(text)) is not None:
        raise ConfigError(fault, where="command line")
    if text.startswith(TRAIN):
        return training_located(text, Path.cwd())
    if not text.startswith(SIBLING):
        return text
    path = Path(text.removeprefix(SIBLING)).expanduser().resolve()
    if not path.is_file():
        raise ConfigError(f"no such file: {path}", where="sibling=", expected="a checkpoint (.pt)")
    return f"{SIBLING}{path}"
