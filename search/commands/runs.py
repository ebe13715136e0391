"""List the runs below a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from search.errors import ParetoPruneError
from search.results.schema import FORMAT
from search.run_folder.record import RunRecord, check_known, well_formed


def runs(project: Path) -> list[dict[str, Any]]:
    """Return the runs below a folder, oldest first; unreadable runs are listed as such."""
    return [_run(path.parent) for path in sorted(project.glob("*/args.yaml"), key=lambda p: p.stat().st_mtime)]


def _run(folder: Path) -> dict[str, Any]:
    record = RunRecord(folder)
    try:
        content = record.read_snapshot() or {}
        with well_formed(record.snapshot_path):
            check_known(content, FORMAT, record.snapshot_path)
            progress, front = dict(content.get("progress", {})), len(content.get("front", ()))
    except ParetoPruneError:
        return {"name": folder.name, "state": "unreadable", "done": None, "total": None, "front": None}
    running = record.lock.is_held()
    state = "running" if running else content.get("state", "interrupted")
    return {
        "name": folder.name,
        # A coordinator that was killed could not say so: its snapshot still claims to run.
        "state": "interrupted" if state == "running" and not running else state,
        "done": progress.get("done", 0),
        "total": progress.get("total"),
        "front": front,
    }
