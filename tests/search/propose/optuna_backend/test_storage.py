"""A study on a PostgreSQL server: the contract of every storage, one writer, and a password nobody can read."""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from search.commands.check import check
from search.config.spec import load_spec
from search.config.storage_url import MASK, scrubbed, shown, usable
from search.errors import ConfigError, RunLocked, ServerMissing
from search.prepare.requirements import claimed
from search.present.dashboard.main import optuna_command
from search.propose.initial_candidates import opening
from search.propose.optuna_backend import storage as optuna_storage
from search.propose.optuna_backend.storage import Claim
from search.propose.optuna_proposer import OptunaProposer
from search.propose.proposer import Proposer
from search.study import Parts, Study
from search.testing.contracts import ProposerContract
from search.testing.known_front import OBJECTIVES, KnownFront, KnownFrontEvaluator, known_space
from search.testing.simulated import InlineEngine
from search.trial import Candidate, Measurement, ScreeningLimit
from tests.search import postgres
from tests.search.conftest import run

needs_server = pytest.mark.skipif(postgres.missing() is not None, reason=postgres.missing() or "")
SECRETS = (postgres.PASSWORD, postgres.QUOTED, "t/word", "t%2Fword")


@pytest.fixture(scope="module")
def running() -> Iterator[postgres.Server]:
    with postgres.serving() as server:
        yield server


@pytest.fixture(scope="module")
def server(running: postgres.Server) -> str:
    return running.url


@needs_server
class TestOptunaProposerOnAServer(ProposerContract):
    @pytest.fixture(params=["auto", "nsga2"])
    def opened(self, request: pytest.FixtureRequest, server: str) -> Iterator[Callable[[], Proposer]]:
        space, made, name = known_space(), list[OptunaProposer](), uuid.uuid4().hex

        def make() -> Proposer:
            kind = request.param
            made.append(OptunaProposer(server, name, space, OBJECTIVES, sampler=kind, opening=opening(space)))
            return made[-1]

        yield make
        for proposer in made:
            proposer.close()


def _study(**overrides: object) -> Study:
    engine = Parts(prepare=KnownFront(), engine=lambda spec, prepared: InlineEngine())
    return Study("study.yaml", parts=engine, **overrides)


def _loaded(run: Path, **overrides: object) -> Study:
    engine = Parts(prepare=KnownFront(), engine=lambda spec, prepared: InlineEngine())
    return Study.load(run, parts=engine, **overrides)


@needs_server
def test_a_search_on_a_server_gives_what_a_file_gives_and_is_resumed(
    server: str, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"known-{uuid.uuid4().hex}"
    plain = _study(name="file", **{"search.trials": 6}).search()
    study = _study(name=name, storage=server, **{"search.trials": 4}).search()
    assert not (study.record.path / "study.db").exists()
    monkeypatch.setenv("PGPASSWORD", postgres.PASSWORD)
    again = _loaded(study.record.path, **{"search.trials": 6}).search()
    assert again.trials() == plain.trials()


@needs_server
def test_the_password_is_nowhere(
    server: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    name = f"known-{uuid.uuid4().hex}"
    study = _study(name=name, storage=server, **{"search.trials": 3}).search()
    said = [repr(study.spec), str(study.spec), caplog.text, study.report().read_text(), json.dumps(study.snapshot())]
    said += [path.read_text(errors="replace") for path in study.record.path.rglob("*") if path.is_file()]
    said += optuna_command(study.record.path, "127.0.0.1", 8081)
    for words in (("ls",), ("ls", name), ("status", name, "-f", "json"), ("show", f"{name}:1", "-f", "yaml")):
        said.append(run(*words).output)
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("PGPASSFILE", "/nowhere")
    with pytest.raises(ServerMissing, match=r"tester:\*\*\*@127") as caught:
        _loaded(study.record.path, **{"search.trials": 4}).search()
    said.append(str(caught.value))
    wrong = run("search", "study.yaml", f"storage={server.replace(':s3', ':wrongs3')}", "--debug")
    assert wrong.exit_code == 4, wrong.output
    said.append(wrong.output)
    assert not [text for text in said for secret in SECRETS if secret in text]
    assert MASK in (study.record.path / "args.yaml").read_text()


@needs_server
def test_one_coordinator_writes_a_study_wherever_its_run_lies(server: str, workplace: Path) -> None:
    overrides = {"storage": server, "name": f"known-{uuid.uuid4().hex}"}
    spec = load_spec(workplace / "study.yaml", overrides)
    with claimed(spec):
        with pytest.raises(RunLocked, match=r"is being searched by paretoprune pid \d+ on") as caught:
            _study(project="elsewhere", **overrides).search()
        assert caught.value.exit_code == 5
        assert not (workplace / "elsewhere").exists(), "a search that never began leaves nothing"
    assert len(_study(project="elsewhere", **overrides, **{"search.trials": 2}).search().trials()) == 2


class _Meanwhile(KnownFrontEvaluator):
    """Something happens to the server in the middle of trial 2."""

    def __init__(self, event: Callable[[], None]) -> None:
        super().__init__()
        self._event = event

    def evaluate(
        self, candidate: Candidate, number: int, seed: int, work_dir: Path, screening: ScreeningLimit | None = None
    ) -> Measurement:
        if number == 2:
            self._event()
        return super().evaluate(candidate, number, seed, work_dir, screening)


def _searching(event: Callable[[], None], **overrides: object) -> Study:
    measuring = _Meanwhile(event)
    engine = Parts(prepare=KnownFront(measuring), engine=lambda spec, prepared: InlineEngine())
    return Study("study.yaml", parts=engine, **overrides, **{"search.trials": 6})


@needs_server
def test_a_server_that_restarts_in_the_middle_is_waited_for(running: postgres.Server, workplace: Path) -> None:
    plain = _study(name="file", **{"search.trials": 6}).search()

    def restart() -> None:
        running.stop()
        threading.Timer(1.5, running.start).start()

    study = _searching(restart, name=f"known-{uuid.uuid4().hex}", storage=running.url).search()
    assert study.trials() == plain.trials()
    log = (study.record.path / "search.log").read_text()
    assert (
        "paused: the storage does not answer any more" in log and "resumed: disk space and storage are available" in log
    )
    assert postgres.PASSWORD not in log


@needs_server
def test_a_study_that_somebody_took_while_the_server_was_away_is_left_to_them(
    running: postgres.Server, workplace: Path
) -> None:
    overrides = {"storage": running.url, "name": f"known-{uuid.uuid4().hex}"}
    with ExitStack() as other:

        def taken() -> None:
            running.stop()
            running.start()
            other.enter_context(claimed(load_spec(workplace / "study.yaml", overrides)))

        with pytest.raises(RunLocked, match="is being searched by"):
            _searching(taken, **overrides).search()
        storage = optuna.storages.RDBStorage(running.url)
        study = optuna.load_study(study_name=overrides["name"], storage=storage)
        states = [trial.state.name for trial in study.trials]
        storage.remove_session()
        storage.engine.dispose()
        assert states == ["COMPLETE", "COMPLETE", "RUNNING"], "nothing was written after it was theirs"


@needs_server
def test_a_connection_that_was_cut_without_the_servers_knowledge_locks_nobody_out(
    running: postgres.Server, workplace: Path
) -> None:
    """The server still has our old session, which holds the lock: a firewall forgot it during a long trial."""
    engine = create_engine(running.url)
    claim, name = Claim(engine, "cut"), "cut"
    ghost, claim._held = claim._held, engine.connect()
    claim._held.close()  # as we see it
    claim.renew()
    with pytest.raises(SQLAlchemyError):
        ghost.exec_driver_sql("SELECT 1")
    ghost.invalidate()
    with pytest.raises(RunLocked):
        Claim(engine, name)
    claim.release()
    Claim(engine, name).release()
    engine.dispose()


@needs_server
def test_a_server_that_stays_away_ends_the_search_and_it_is_resumed(
    running: postgres.Server, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.orchestration.loop._SERVER_PATIENCE_S", 0.0)
    monkeypatch.setenv("PGPASSWORD", postgres.PASSWORD)
    plain = _study(name="file", **{"search.trials": 6}).search()
    study = _searching(running.stop, name=f"known-{uuid.uuid4().hex}", storage=running.url)
    try:
        with pytest.raises(ServerMissing, match="does not answer any more") as caught:
            study.search()
    finally:
        running.start()
    assert caught.value.exit_code == 4 and postgres.PASSWORD not in str(caught.value)
    assert _loaded(study.record.path).search().trials() == plain.trials()


def test_a_server_that_does_not_answer_is_named_before_any_work(workplace: Path) -> None:
    pytest.importorskip("psycopg")
    storage = "postgresql+psycopg://me:s3cr%40t@127.0.0.1:1/known"
    for call in (lambda: _study(storage=storage).search(), lambda: check(load_spec(None, _keys(workplace, storage)))):
        with pytest.raises(ServerMissing, match="does not answer") as caught:
            call()
        assert caught.value.exit_code == 4 and "me:***@127.0.0.1:1" in str(caught.value)
        assert "s3cr" not in str(caught.value)
    assert not (workplace / "runs").exists()


def _keys(workplace: Path, storage: str) -> dict[str, str]:
    return {"model": str(workplace / "best.pt"), "data": str(workplace / "data.yaml"), "storage": storage}


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"search.engine": "ray"}, 'pip install "ray[tune]"'),
        ({"search.engine": "ray", "search.address": "ray://head:10001"}, 'pip install "ray[client,tune]"'),
        ({"storage": "postgresql+psycopg://me@host/known"}, 'pip install "psycopg[binary]"'),
    ],
)
def test_a_missing_package_is_named_before_any_work(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, str], line: str
) -> None:
    there = {"ray", "pyarrow"} if "client" in line else set[str]()
    monkeypatch.setattr("search.prepare.requirements.find_spec", lambda name: name in there or None)
    for command in ("check", "search"):
        result = run(command, "study.yaml", *(f"{key}={value}" for key, value in keys.items()))
        assert result.exit_code == 4 and line in result.output, result.output
    assert not (workplace / "runs").exists()


@pytest.mark.parametrize("storage", ["study.db", "mysql://me:s3cret@host/known", "me:s3cret@host"])
def test_what_is_no_storage_is_refused_without_repeating_it(workplace: Path, storage: str) -> None:
    with pytest.raises(ConfigError, match=r"expected postgresql\+psycopg://") as caught:
        _study(storage=storage)
    assert "s3cret" not in str(caught.value)


_PASSWORDS = st.text(st.characters(exclude_categories=("C",)), min_size=4).filter(lambda text: "*" not in text)


@given(password=_PASSWORDS)
def test_no_password_is_shown(password: str) -> None:
    login = f"postgresql+psycopg://me:{password}@host:5432/known"
    assert shown(login) == "postgresql+psycopg://me:***@host:5432/known"
    assert usable(shown(login)) == "postgresql+psycopg://me@host:5432/known"
    assert password not in scrubbed(f"<{password}>", login)


@given(password=_PASSWORDS.filter(lambda text: "&" not in text))
def test_no_password_among_the_parameters_is_shown(password: str) -> None:
    url = f"postgresql+psycopg://host/known?password={password}&connect_timeout=3"
    assert shown(url) == "postgresql+psycopg://host/known?password=***&connect_timeout=3"
    assert password not in scrubbed(f"<{password}>", url)


def test_a_storage_without_a_password_is_shown_as_it_is() -> None:
    for url in ("sqlite:////runs/study.db", "postgresql+psycopg://me@host:5432/known", "postgresql+psycopg:///known"):
        assert shown(url) == url and usable(url) == url


@pytest.mark.parametrize("url", ["sqlite:///a.db", "postgresql+psycopg://me@host/d"])
def test_a_storage_that_fails_without_a_word_is_named_by_its_error(url: str) -> None:
    assert "TimeoutError" in str(optuna_storage._unopened(url, TimeoutError()))
