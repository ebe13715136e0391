"""The page, and the report: the same page as one HTML file that displays a run offline.

The page is real files (`page/`): HTML, CSS and ES modules. They are joined to one document: the modules in the
order of their imports, plotly's own script after them, the data as inert JSON. The dashboard sends the same document
without data. A Content-Security-Policy forbids every address and every script but the ones written here,
and no script may turn text into code (no `unsafe-eval`): plotly needs that only for WebGL, which the page does not use.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from posixpath import dirname, join, normpath

from search.present.page_data import Data, page_data
from search.present.trial_files import data_address, fitting, samples_of
from search.results.schema import Snapshot
from search.results.snapshot_reader import check_format
from search.run_folder.atomic import write_atomic

MOST_BYTES = 6_000_000
_MARGIN = 60_000
_ENTRY = "main.js"
_IMPORT = re.compile(r'^import (\{[^}]*\}) from "(\.{1,2}/[a-z/]+\.js)";\n', re.M)
_EXPORT = re.compile(r"^export (?:async )?(?:function|const) (\w+)", re.M)
_UNSAFE = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def write_report(snapshot: Snapshot, path: Path, run: Path | None = None, shown_on: str | None = None) -> Path:
    """Write the report of `snapshot` to `path` atomically and return `path`.

    Args:
        run: the run's folder, whose samples, files, notes, sensitivity and what-if are included as far as they fit.
        shown_on: the device whose latencies the page shows at first; None for the study's own runtime.

    Raises:
        SnapshotError: a snapshot of another format.
        OSError: the file cannot be written.
    """
    check_format(snapshot)
    data = page_data(snapshot, run)
    if shown_on is not None:
        data["shown_on"] = shown_on
    page = render_page(data)
    if run is not None:
        page = render_page({**data, **_embedded(data, run, MOST_BYTES - _MARGIN - len(page.encode()))})
    write_atomic(path, page)
    return path


def render_page(data: Data | None, connect: str = "'none'", images: str = "") -> str:
    """Return the page as text; without data it requests them from its server (`live.js`).

    Args:
        data: the output of `page_data`, to embed.
        connect: the addresses that scripts may read (CSP `connect-src`); a live page names `'self'`.
        images: further sources of images.
    """
    parts = {
        "policy": policy(connect, images),
        "style": page_file("page.css"),
        "data": "" if data is None else inert_json(data),
        "plotly": plotly_script(),
        "script": page_script(),
    }
    # One pass over the template alone: text put in is never searched for further marks.
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], page_file("page.html"))


def policy(connect: str = "'none'", images: str = "") -> str:
    """Return the Content-Security-Policy of the page."""
    allowed = " ".join(_hash(script) for script in (plotly_script(), page_script()))
    # blob: is the page's own memory; plotly draws "save as PNG" through it. Plotly also styles what it draws.
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob: {images}; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'"
    ).replace(" ;", ";")


def page_file(name: str) -> str:
    """Return the source of one file of the page."""
    return files("search.present").joinpath("page", name).read_text(encoding="utf-8")


@cache
def page_script() -> str:
    """Join all modules of the page to one script, each in its own scope, after those that it imports."""
    return '"use strict";\n' + "".join(_scoped(name) for name in module_order(_ENTRY))


def module_order(entry: str) -> list[str]:
    """Return the modules that `entry` needs, depth first, itself last. Raises RuntimeError for import cycles."""
    order: list[str] = []
    open_ones: list[str] = []

    def visit(name: str) -> None:
        if name in open_ones:
            raise RuntimeError(f"page/{name}: imports itself through {' -> '.join(open_ones)}")
        if name in order:
            return
        open_ones.append(name)
        for _, needed in _IMPORT.findall(page_file(name)):
            visit(_located(needed, name))
        open_ones.pop()
        order.append(name)

    visit(entry)
    return order


def inert_json(data: object) -> str:
    """Encode JSON such that no HTML or script parser reads it as markup: escapes `<`, `>`, `&`, line separators."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_UNSAFE)


def _scoped(name: str) -> str:
    """Wrap a module as `const name_js = (() => {...; return {exports}; })();`. Exports functions and constants only."""
    source = page_file(name)
    body = _IMPORT.sub(lambda mark: f"const {mark[1]} = {_scope(_located(mark[2], name))};\n", source)
    exported = ", ".join(_EXPORT.findall(source))
    body = re.sub(r"^export ", "", body, flags=re.M)
    return f"const {_scope(name)} = (() => {{\n{body}return {{ {exported} }};\n}})();\n"


def _located(needed: str, name: str) -> str:
    """Resolve the import `needed` of the module `name`, relative to the folder of the page."""
    return normpath(join(dirname(name), needed))


def _scope(name: str) -> str:
    return f"{name.removesuffix('.js').replace('/', '_')}_js"


def _embedded(data: Data, run: Path, room: int) -> Data:
    """Return images and files of the most important trials: picks, pinned ones, the front."""
    picks = [pick["trial"] for pick in (data.get("picks") or {}).values() if pick.get("trial") is not None]
    pinned = [point for point, mark in (data.get("marks") or {}).items() if mark["pinned"]]
    base = [data_address(path) for path in samples_of(run, run / "base")]
    room -= sum(map(len, base))
    wanted = list(dict.fromkeys([*picks, *pinned, *(data.get("front") or ())]))
    return {"base_samples": base, "details": fitting(wanted, run, room)} if room > 0 else {}


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


@cache
def plotly_script() -> str:
    """Return plotly.min.js of the installed wheel."""
    script = files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    if "</script" in script.lower():
        raise RuntimeError("plotly.min.js: expected a script that can be written into a page, found '</script'")
    return script
