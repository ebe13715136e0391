"""The dashboard's server: who may ask, what is answered, what a reader may leave."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'paretoprune[dashboard]'")

from starlette.testclient import TestClient

from search.errors import RunCorrupt
from search.present.dashboard.access import ListenAddress
from search.present.dashboard.app import make_app
from search.present.dashboard.jobs import Jobs
from search.present.dashboard.live import LiveRun, Position, chunks
from search.run_folder.atomic import write_json
from search.run_folder.enqueue import MOST, Requests
from search.run_folder.record import RunRecord
from search.testing.known_front import known_what_if
from tests.search.conftest import SearchOnce

ORIGIN = "http://127.0.0.1:8060"
VECTOR = {"ratios": {"stem": 0.1, "neck": 0.2, "head": 0.3}, "imgsz": 640}


@pytest.fixture
def run(search_once: SearchOnce) -> Path:
    """A finished run of six trials."""
    return search_once(**{"search.trials": 6}).record.path


def client_of(run: Path, address: ListenAddress | None = None, jobs: Jobs | None = None) -> TestClient:
    return TestClient(make_app([run], address, jobs), base_url=ORIGIN)


@pytest.fixture
def client(run: Path) -> Iterator[TestClient]:
    with client_of(run) as found:
        yield found


@pytest.fixture
def api(client: TestClient) -> str:
    """The address of the run."""
    return f"/api/runs/{client.get('/api/runs').json()[0]['id']}"


def test_the_page_brings_a_strict_policy(client: TestClient) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "connect-src 'self'" in policy
    assert "unsafe-eval" not in policy and "'unsafe-inline'" not in policy.replace("style-src 'unsafe-inline'", "")
    assert "<script>" in answer.text


@pytest.mark.parametrize("path", ["/", "/api/runs", "/nowhere", "/artefacts/x", "/api/runs/x/events"])
def test_every_answer_carries_the_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-resource-policy"] == "same-origin" and headers["cache-control"] == "no-store"
    assert "default-src 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(client: TestClient, api: str, method: str) -> None:
    answer = client.request(method, f"{api}/enqueue")
    assert answer.status_code == 405 and answer.headers["allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:8060"},
        {"Host": ""},
        {"Host": "[::1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_names_and_other_sites_are_refused(client: TestClient, api: str, headers: dict[str, str]) -> None:
    assert client.get("/api/runs", headers=headers).status_code == 403
    assert client.post(f"{api}/enqueue", headers=headers, json=VECTOR).status_code == 403


def test_our_own_page_and_a_link_to_it_are_let_in(client: TestClient) -> None:
    assert client.get("/api/runs", headers={"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}).status_code == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/", headers=link).status_code == 200
    assert client.get("/api/runs", headers=link).status_code == 403


def test_a_body_must_be_small_json(client: TestClient, api: str) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post(f"{api}/enqueue", content=json.dumps(VECTOR), headers=form).status_code == 415
    assert (
        client.post(f"{api}/enqueue", content=json.dumps(VECTOR), headers={"Content-Type": "text/plain"}).status_code
        == 415
    )
    kind = {"Content-Type": "application/json"}
    assert client.post(f"{api}/enqueue", content=b"x" * 70_000, headers=kind).status_code == 413
    assert client.post(f"{api}/enqueue", content=iter([b"{}"]), headers=kind).status_code == 411


def test_a_token_is_asked_for(run: Path) -> None:
    secret = "a token of enough length"
    with client_of(run, ListenAddress("0.0.0.0", 8060, secret)) as client:
        assert client.get("/").status_code == 401 and client.get("/api/runs").status_code == 401
        assert client.get("/?token=wrong", follow_redirects=False).status_code == 401
        assert client.get("/api/runs", headers={"Authorization": f"Bearer {secret}x"}).status_code == 401
        assert client.get("/api/runs", headers={"Authorization": f"Bearer {secret}"}).status_code == 200
        answer = client.get(f"/?token={secret}", follow_redirects=False)
        assert answer.status_code == 303 and answer.headers["location"] == "/"
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie
        assert client.get("/api/runs").status_code == 200
        assert secret not in repr(ListenAddress(token=secret))


def test_listening_everywhere_still_checks_the_name(run: Path) -> None:
    address = ListenAddress("0.0.0.0", 8060, "a token of enough length")
    assert address.knows("192.168.1.7") and address.knows("127.0.0.1") and not address.knows("evil.example")
    assert not ListenAddress().knows("192.168.1.7")


def test_artefacts_have_opaque_names_and_stay_inside_the_run(run: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("mine")
    (run / "trials" / "0002" / "train.log").symlink_to(secret)
    with client_of(run) as client:
        key = client.get("/api/runs").json()[0]["id"]
        files = {file["name"]: file["address"] for file in client.get(f"/api/runs/{key}/trials/2").json()["files"]}
        assert "trials/0002/train.log" not in files, "a link that leads out is no file of the run"
        good = files["trials/0002/result.json"]
        assert client.get(good).json()["state"] == "complete" and len(good.rpartition("/")[2]) == 32
        for path in (
            "/artefacts/..%2f..%2fargs.yaml",
            "/artefacts/args.yaml",
            f"{good}/../x",
            "/artefacts/" + "0" * 32,
        ):
            assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "path", ["/api/runs/nope/events", "/api/runs/nope/trials/1", "/docs", "/openapi.json", "/redoc"]
)
def test_what_is_not_there_is_not_there(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_trials_that_do_not_exist_cannot_be_marked_or_exported(client: TestClient, api: str) -> None:
    assert client.get(f"{api}/trials/99").status_code == 404
    assert client.post(f"{api}/trials/99/mark", json={"note": "", "pinned": True}).status_code == 404
    assert client.post(f"{api}/trials/99/export", json={"formats": ["onnx"], "confirmed": True}).status_code == 404


def test_a_mark_is_a_file_of_the_run(client: TestClient, api: str, run: Path) -> None:
    assert client.post(f"{api}/trials/2/mark", json={"note": " good ", "pinned": True}).json() == {"saved": True}
    assert json.loads((run / "marks.json").read_text())["trials"] == {"2": {"note": "good", "pinned": True}}
    assert client.post(f"{api}/trials/2/mark", json={"note": "x" * 3000}).status_code == 422
    assert client.post(f"{api}/trials/2/mark", json={"note": "", "admin": True}).status_code == 422


def test_a_request_is_left_for_the_coordinator(client: TestClient, api: str, run: Path) -> None:
    assert client.post(f"{api}/enqueue", json=VECTOR).status_code == 200
    (request,) = Requests(run)
    assert request.candidate.ratios == VECTOR["ratios"] and request.candidate.precision == "fp32"


def test_a_request_may_have_two_sides(client: TestClient, api: str, run: Path) -> None:
    write_json(run / "base" / "whatif.json", known_what_if(0.0, 0.8, (640, (384, 640))))
    assert client.post(f"{api}/enqueue", json={**VECTOR, "imgsz": "640x384"}).status_code == 422
    assert client.post(f"{api}/enqueue", json={**VECTOR, "imgsz": "384x640"}).status_code == 200
    assert [request.candidate.imgsz for request in Requests(run)] == [(384, 640)]


def test_a_request_is_in_the_studys_own_precision(run: Path) -> None:
    record = RunRecord(run)
    args, prints = record.read_args()
    record.write_args({**args, "space": {**args["space"], "precision": ["int8", "fp32"]}}, prints)
    with client_of(run) as client:
        (known,) = client.get("/api/runs").json()
        assert client.post(f"/api/runs/{known['id']}/enqueue", json=VECTOR).status_code == 200
    assert [request.candidate.precision for request in Requests(run)] == ["int8"]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"ratios": {"stem": 0.1}}, "a ratio for each"),
        ({"ratios": {"stem": 0.1, "neck": 0.2, "head": 0.95}}, "head: expected 0 to 0.8"),
        ({"imgsz": 320}, "input size"),
        ({"removed": ["model.2"]}, "blocks"),
        ({"ratios": {"stem": "0.1", "neck": 0.2, "head": 0.3}}, "number"),
        ({"seed": 1}, "seed"),
    ],
)
def test_a_request_outside_the_space_is_refused(
    client: TestClient, api: str, change: dict[str, Any], word: str
) -> None:
    answer = client.post(f"{api}/enqueue", json={**VECTOR, **change})
    assert answer.status_code == 422 and word in answer.json()["detail"]


def test_requests_do_not_pile_up(client: TestClient, api: str, run: Path) -> None:
    (run / "enqueue").mkdir()
    for number in range(MOST):
        (run / "enqueue" / f"{number}.json").write_text("{}")
    answer = client.post(f"{api}/enqueue", json=VECTOR)
    assert answer.status_code == 409 and "waiting already" in answer.json()["detail"]


def test_exports_are_confirmed_known_and_one_at_a_time(run: Path) -> None:
    def launch(words: Any) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(30)"], text=True, start_new_session=True, **pipes
        )

    jobs = Jobs(launch)
    with client_of(run, jobs=jobs) as client:
        path = f"/api/runs/{client.get('/api/runs').json()[0]['id']}/trials/2/export"
        assert client.post(path, json={"formats": ["onnx"]}).status_code == 422
        assert client.post(path, json={"formats": ["; rm -rf /"], "confirmed": True}).status_code == 422
        assert client.post(path, json={"formats": ["onnx"], "quantize": 7, "confirmed": True}).status_code == 422
        assert jobs.jobs == []
        assert client.post(path, json={"formats": ["onnx"], "confirmed": True}).json()["state"] == "running"
        assert client.post(path, json={"formats": ["onnx"], "confirmed": True}).status_code == 409
    assert jobs._process is not None and jobs._process.wait(10) != 0, "the server takes its job with it"


# ---- following a run ------------------------------------------------------------------------------------------


def test_a_reader_gets_only_what_it_lacks(run: Path) -> None:
    view = LiveRun(run).view()
    assert view.position().upto == 6
    assert view.after(view.position()) == {} and view.after(Position()) == view.rows
    three = Position(3, view._sum(3))
    assert sorted(view.after(three)) == ["3", "4", "5"]
    assert Position.parse(str(three)) == three


@pytest.mark.parametrize("text", ["", "x", "3", "3-zz", "-1-0", "9" * 60, "3-00000001", "7-00000000"])
def test_a_position_that_is_not_ours_begins_again(run: Path, text: str) -> None:
    view = LiveRun(run).view()
    assert view.after(Position.parse(text)) == view.rows


def test_a_row_that_has_changed_is_sent_again(run: Path) -> None:
    live = LiveRun(run)
    before = live.view()
    content = json.loads((run / "snapshot.json").read_text())
    content["trials"][1]["source"] = "changed"
    (run / "snapshot.json").write_text(json.dumps(content))
    after = live.view()
    assert after.version == before.version + 1
    assert after.after(before.position()) == after.rows


def test_trials_that_end_out_of_order_leave_no_gap(run: Path) -> None:
    content = json.loads((run / "snapshot.json").read_text())
    late = content["trials"].pop(2)
    (run / "snapshot.json").write_text(json.dumps(content))
    live = LiveRun(run)
    known = live.view().position()
    assert known.upto == 2
    content["trials"].append(late)
    (run / "snapshot.json").write_text(json.dumps(content))
    assert sorted(live.view().after(known)) == ["2", "3", "4", "5"]


def test_nothing_is_read_again_while_nothing_changes(run: Path) -> None:
    live = LiveRun(run)
    assert live.view() is live.view()
    (run / "marks.json").write_text(json.dumps({"trials": {"1": {"note": "n", "pinned": False}}}))
    assert live.view().data["marks"] == {"1": {"note": "n", "pinned": False}}


def test_a_killed_search_is_not_said_to_run(run: Path) -> None:
    content = json.loads((run / "snapshot.json").read_text())
    (run / "snapshot.json").write_text(json.dumps({**content, "state": "running"}))
    assert LiveRun(run).view().data["state"] == "interrupted"


def test_a_run_without_a_snapshot_is_shown(run: Path) -> None:
    (run / "snapshot.json").unlink()
    view = LiveRun(run).view()
    assert view.rows == {} and view.data["state"] == "interrupted"


def test_rows_travel_in_pieces(run: Path) -> None:
    rows = LiveRun(run).view().rows
    pieces = [json.loads(piece) for piece in chunks(rows, 4)]
    assert [len(piece) for piece in pieces] == [4, 2]
    assert [row["number"] for piece in pieces for row in piece] == list(range(6))


def test_the_known_front_has_a_cost_table(run: Path) -> None:
    assert json.loads((run / "base" / "whatif.json").read_text()) == known_what_if(0.0, 0.8, (640,))
    shutil.rmtree(run / "base")


def test_a_snapshot_of_another_format_is_named_at_once(run: Path) -> None:
    (run / "snapshot.json").write_text(json.dumps({"format": 99, "name": "later"}))
    with pytest.raises(RunCorrupt, match="format 99"):
        make_app([run])
