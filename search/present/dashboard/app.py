"""The dashboard's server: the page, one event stream per run, and the user's actions.

It reads snapshot.json and the files beside it, never the database, which belongs to the coordinator. A user's action is
a file in the run (a note, a request for a trial) or a command of the command line (an export).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from objectives.image_size import size_of
from search.errors import ParetoPruneError
from search.export.formats import FORMATS
from search.present.dashboard.access import AccessGuard, ListenAddress
from search.present.dashboard.jobs import Jobs
from search.present.dashboard.live import LiveRun, Position, chunks
from search.present.report import policy, render_page
from search.present.trial_files import TYPES, details, samples_of
from search.run_folder.annotations import MAX_NOTE, Mark, write_mark
from search.run_folder.artefact_files import inside
from search.run_folder.enqueue import leave_request
from search.trial import Candidate, PointId

POLL_S = 0.4
BEAT_S = 15.0
_CONNECT, _IMAGES = "'self'", "'self'"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class MarkBody(_Body):
    """A note and a pin."""

    note: Annotated[str, StringConstraints(max_length=MAX_NOTE)] = ""
    pinned: bool = False


class ExportBody(_Body):
    """Formats to export; the user has confirmed them."""

    formats: Annotated[list[str], Field(min_length=1, max_length=8)]
    quantize: int | None = None
    confirmed: bool = False


class CandidateBody(_Body):
    """A point of the space."""

    ratios: Annotated[dict[str, float], Field(max_length=2000)]
    imgsz: int | Annotated[str, Field(max_length=32)]
    removed: Annotated[list[str], Field(max_length=500)] = []


class Artefacts:
    """Files under opaque ids: a page can only request files that it was given."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._paths: dict[str, Path] = {}

    def address(self, run: Path, path: Path) -> str:
        """Return the address of a file of the run; empty if the path leaves the run."""
        if not inside(run, path):
            return ""
        name = hashlib.blake2b(str(path).encode(), key=self._key, digest_size=16).hexdigest()
        self._paths[name] = path
        return f"/artefacts/{name}"

    def path(self, name: str) -> Path:
        """Return the file; 404 for an unknown id."""
        found = self._paths.get(name)
        if found is None or not found.is_file():
            raise HTTPException(404, "no such file")
        return found


def make_app(runs: Sequence[Path], address: ListenAddress | None = None, jobs: Jobs | None = None) -> FastAPI:
    """Return the application for some runs, the first of which is shown at first.

    Raises:
        ConfigError: a folder that is no run.
        RunCorrupt: a snapshot that cannot be read, or of another format.
    """
    lives = {live.id: live for live in map(LiveRun, runs)}
    for live in lives.values():
        live.view()  # what cannot be drawn is said before anybody looks
    jobs, artefacts, address, marking = jobs or Jobs(), Artefacts(), address or ListenAddress(), threading.Lock()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        jobs.close()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_middleware(AccessGuard, address=address)
    app.state.closing = threading.Event()
    page = render_page(None, _CONNECT, _IMAGES)
    header = {"Content-Security-Policy": f"{policy(_CONNECT, _IMAGES)}; frame-ancestors 'none'"}

    def live_of(run: str) -> LiveRun:
        if run not in lives:
            raise HTTPException(404, "no such run")
        return lives[run]

    def point_of(run: str, point: str) -> tuple[LiveRun, PointId]:
        live = live_of(run)
        with suppress(ValueError):
            if point in live.view().rows:
                return live, PointId.parse(point)
        raise HTTPException(404, "no such trial")

    @app.get("/")
    def home() -> HTMLResponse:
        return HTMLResponse(page, headers=header)

    @app.get("/favicon.ico")
    def icon() -> Response:
        return Response(status_code=204)

    @app.get("/api/runs")
    def list_runs() -> list[dict[str, Any]]:
        return [live.brief() for live in lives.values()]

    @app.get("/api/runs/{run}/events")
    async def stream(
        run: str, request: Request, after: str = "", last_event_id: Annotated[str, Header()] = ""
    ) -> StreamingResponse:
        known = Position.parse(last_event_id or after)
        return StreamingResponse(
            events(live_of(run), jobs, known, request, app.state.closing), media_type="text/event-stream"
        )

    @app.get("/api/runs/{run}/front")
    def front(run: str) -> dict[str, Any]:
        view = live_of(run).view()
        rows = [json.loads(view.rows[point]) for point in view.data.get("front") or () if point in view.rows]
        names = [objective["name"] for objective in view.data.get("objectives") or ()]
        return {"name": view.data["name"], "objectives": names, "front": rows, "base": view.data.get("base")}

    @app.get("/api/runs/{run}/base")
    def base(run: str) -> dict[str, Any]:
        live = live_of(run)
        return {"samples": [artefacts.address(live.path, path) for path in samples_of(live.path, live.path / "base")]}

    @app.get("/api/runs/{run}/trials/{point}")
    def trial(run: str, point: str) -> dict[str, Any]:
        live, known = point_of(run, point)
        return details(live.path, known, partial(artefacts.address, live.path))

    @app.post("/api/runs/{run}/trials/{point}/mark")
    def mark(run: str, point: str, body: MarkBody) -> dict[str, Any]:
        live, known = point_of(run, point)
        with marking:  # two readers, one file
            write_mark(live.path, known, Mark(body.note.strip(), body.pinned))
        return {"saved": True}

    @app.post("/api/runs/{run}/trials/{point}/export")
    def export(run: str, point: str, body: ExportBody) -> dict[str, Any]:
        live, known = point_of(run, point)
        if known.precision:
            raise HTTPException(422, "this is an export already: export the trial that it was made from")
        unknown = [name for name in body.formats if name not in FORMATS]
        if unknown or not body.confirmed or body.quantize not in (None, 8, 16, 32):
            raise HTTPException(422, "expected a confirmed export to known formats, quantize 8, 16 or 32")
        words = ["export", f"{live.path}:{known}", f"format={','.join(body.formats)}", "-f", "json"]
        words += [f"quantize={body.quantize}"] if body.quantize else []
        return jobs.start("export", run, known.trial, words).to_json()

    @app.post("/api/runs/{run}/fill")
    def fill(run: str) -> dict[str, Any]:
        return jobs.start("fill", run, None, ["report", str(live_of(run).path), "--fill"]).to_json()

    @app.post("/api/runs/{run}/enqueue")
    def enqueue(run: str, body: CandidateBody) -> dict[str, Any]:
        live = live_of(run)
        fault = outside((live.view().data.get("whatif") or {}), body)
        if fault:
            raise HTTPException(422, fault)
        size = size_of(body.imgsz)
        assert size is not None  # it is one of the space's
        candidate = Candidate(body.ratios, size, live.precision(), removed=tuple(body.removed))
        return {"request": leave_request(live.path, candidate)}

    @app.get("/artefacts/{name}")
    def artefact(name: str) -> FileResponse:
        path = artefacts.path(name)
        shown = TYPES.get(path.suffix)
        kind = "inline" if shown else "attachment"
        return FileResponse(
            path, media_type=shown or "application/octet-stream", filename=path.name, content_disposition_type=kind
        )

    @app.exception_handler(ParetoPruneError)
    def foreseen(request: Request, error: ParetoPruneError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 409)

    @app.exception_handler(RequestValidationError)
    def not_valid(request: Request, error: RequestValidationError) -> JSONResponse:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:5]]
        return JSONResponse({"detail": "; ".join(faults)}, 422)

    return app


def outside(whatif: dict[str, Any], body: CandidateBody) -> str:
    """Return why a candidate is not in the space; empty if it is."""
    bounds = {row["name"]: (row["low"], row["high"]) for row in whatif.get("dimensions") or ()}
    if not bounds:
        return "this run has no base/whatif.json: paretoprune report RUN --fill makes it"
    if body.ratios.keys() != bounds.keys():
        return f"expected a ratio for each of {', '.join(bounds)}"
    for name, (low, high) in bounds.items():
        if not low <= body.ratios[name] <= high:
            return f"{name}: expected {low:g} to {high:g}, found {body.ratios[name]:g}"
    blocks = {row["path"] for row in whatif.get("blocks") or ()}
    if not blocks.issuperset(body.removed):
        return f"expected blocks of {', '.join(sorted(blocks)) or 'none'}"
    return "" if body.imgsz in whatif.get("sizes", ()) else f"expected an input size of {whatif.get('sizes')}"


async def events(
    live: LiveRun, jobs: Jobs, known: Position, request: Request, closing: threading.Event
) -> AsyncIterator[str]:
    """Server-sent events: `rows` (lists of trials), then `head`; `running` and `jobs` when they change."""
    sent: dict[str, str] = {}
    version, extras, quiet = 0, {"running": "", "jobs": ""}, 0.0
    yield "retry: 1500\n\n"
    while not closing.is_set() and not await request.is_disconnected():
        try:
            view = await run_in_threadpool(live.view)
        except ParetoPruneError:  # while somebody repairs the run
            await asyncio.sleep(POLL_S)
            continue
        said = []
        if view.version != version:
            new = view.after(known) if not version else {n: row for n, row in view.rows.items() if sent.get(n) != row}
            said += [_event("rows", rows) for rows in chunks(new)]
            said.append(_event("head", view.head, str(view.position())))
            sent, version = view.rows, view.version
        now = {"running": json.dumps(await run_in_threadpool(live.progress)), "jobs": json.dumps(jobs.of(live.id))}
        said += [_event(name, text) for name, text in now.items() if text != extras[name]]
        extras = now
        quiet = 0.0 if said else quiet + POLL_S
        if quiet >= BEAT_S:
            said, quiet = [": beat\n\n"], 0.0
        for text in said:
            yield text
        await asyncio.sleep(POLL_S)


def _event(name: str, data: str, position: str = "") -> str:
    mark = f"id: {position}\n" if position else ""
    return f"{mark}event: {name}\ndata: {data}\n\n"
