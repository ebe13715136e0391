"""The report: one HTML file that draws a snapshot anywhere, without a network.

The page is real files (`page/`), put together here with plotly's own script and the snapshot as inert JSON. It is
drawn in one place only, by `page/figures.js`: the report, the dashboard and the pictures of the documentation are
the same drawing. A Content-Security-Policy forbids every address and every script but the ones written here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from search.atomic import write_atomic
from search.present.snapshot import check_format

_SCRIPTS = ("plain.js", "figures.js", "report.js")
_UNSAFE = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def write_report(snapshot: Mapping[str, Any], path: Path) -> Path:
    """Write the report of `snapshot` to `path` (whole or not at all) and return `path`.

    Raises:
        SnapshotError: a snapshot of another format.
        OSError: the file cannot be written.
    """
    check_format(snapshot)
    write_atomic(path, render_page(snapshot))
    return path


def render_page(snapshot: Mapping[str, Any] | None, connect: str = "'none'") -> str:
    """The page as text; without a snapshot it waits for `window.paretoprune.render(snapshot)`.

    Args:
        snapshot: what to draw, embedded as data.
        connect: the addresses that scripts may read (CSP `connect-src`); a live page names `'self'`.
    """
    script = "\n".join(page_file(name) for name in _SCRIPTS)
    plotly = _plotly_script()
    parts = {
        "policy": _policy((plotly, script), connect),
        "style": page_file("report.css"),
        "snapshot": "" if snapshot is None else inert_json(slim(snapshot)),
        "plotly": plotly,
        "script": script,
    }
    # One pass over the template alone: text put in is never searched for further marks.
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], page_file("report.html"))


def page_file(name: str) -> str:
    """The source of one file of the page."""
    return files("search.present").joinpath("page", name).read_text(encoding="utf-8")


def inert_json(data: object) -> str:
    """JSON that no HTML or script parser can take for markup: `<`, `>`, `&` and line separators are escaped."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_UNSAFE)


def slim(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """The same schema without what the page does not draw, so that 500 trials stay a small file.

    Ratios are dropped (the page shows widths), widths are kept for the front and the picks, numbers are rounded to
    six digits and what is not finite becomes null.
    """
    wanted = {pick.get("trial") for pick in (snapshot.get("picks") or {}).values()}
    rows = [_slim_trial(row, row.get("number") in wanted) for row in snapshot.get("trials", ())]
    plain: dict[str, Any] = _finite({**snapshot, "trials": rows})
    return plain


def _slim_trial(row: Mapping[str, Any], picked: bool) -> dict[str, Any]:
    candidate = {key: found for key, found in (row.get("candidate") or {}).items() if key != "ratios"}
    kept = {key: found for key, found in row.items() if key != "widths" or picked or row.get("on_front")}
    kept.pop("timing", None)
    return {**kept, "candidate": candidate}


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(key): _finite(item) for key, item in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(item) for item in data]
    if isinstance(data, float):
        return float(f"{data:.6g}") if math.isfinite(data) else None
    return data


def _policy(scripts: tuple[str, ...], connect: str) -> str:
    allowed = " ".join(_hash(script) for script in scripts)
    # blob: is the page's own memory; plotly draws "save as PNG" through it.
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'"
    )


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _plotly_script() -> str:
    script = files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    if "</script" in script.lower():
        raise RuntimeError("plotly.min.js: expected a script that can be written into a page, found '</script'")
    return script
