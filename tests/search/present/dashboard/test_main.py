"""`paretoprune dashboard`: addresses, tokens, what is missing, optuna-dashboard beside it, and the real process."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from objectives.errors import BackendMissing
from search.errors import ConfigError, exit_code
from search.present.dashboard import main
from search.study import Study
from tests.search.conftest import run as cli
from tests.waiting import LIMIT_S


def test_another_address_needs_a_token() -> None:
    with pytest.raises(ConfigError, match="a token"):
        main.checked_token("0.0.0.0", "")
    with pytest.raises(ConfigError, match="at least 16"):
        main.checked_token("127.0.0.1", "short")
    assert main.checked_token("127.0.0.1", "") == ""
    assert len(main.checked_token("0.0.0.0", "auto")) >= 24
    assert main.checked_token("0.0.0.0", "auto") != main.checked_token("0.0.0.0", "auto")


def test_the_command_line_says_so(workplace: Path, make_study: Callable[..., Study]) -> None:
    make_study(**{"search.trials": 2}).search()
    done = cli("dashboard", "known", "--host", "0.0.0.0")
    assert done.exit_code == 2 and "--token auto" in done.output
    assert cli("dashboard", "nope").exit_code == 2


def test_a_port_that_is_taken_names_the_next() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port {port + 1}"), main.listening("127.0.0.1", port):
            pass


def test_what_is_missing_is_named_with_its_pip_line() -> None:
    with pytest.raises(BackendMissing, match="pip install a-dashboard-that-nobody-has") as caught:
        main.need("fastapi", "a_dashboard_that_nobody_has")
    assert exit_code(caught.value) == 4 and caught.value.package == "a-dashboard-that-nobody-has"


def test_optuna_dashboard_missing_exits_4(
    workplace: Path, make_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_study(**{"search.trials": 2}).search()
    monkeypatch.setattr(main, "find_spec", lambda name: None if name == "optuna_dashboard" else object())
    done = cli("dashboard", "known", "--optuna")
    assert done.exit_code == 4 and "pip install optuna-dashboard" in done.output


def test_optuna_dashboard_opens_the_storage_of_the_run(workplace: Path, make_study: Callable[..., Study]) -> None:
    path = make_study(**{"search.trials": 2}).search().record.path
    words = main.optuna_command(path, "127.0.0.1", 8061)
    assert Path(words[0]).name == "optuna-dashboard"
    assert words[1:] == [f"sqlite:///{path}/study.db", "--host", "127.0.0.1", "--port", "8061"]


def test_optuna_dashboard_starts_beside_ours_and_ends_with_it(
    workplace: Path, make_study: Callable[..., Study]
) -> None:
    """The real program on the real storage of a run."""
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed: pip install optuna-dashboard")
    run = make_study(**{"search.trials": 2}).search().record.path
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said: list[str] = []
    with main.beside([run], "127.0.0.1", port - 1, said.append):
        studies = asked(f"http://127.0.0.1:{port}/api/studies", limit_s=30)["study_summaries"]
        assert said == [f"optuna-dashboard: http://127.0.0.1:{port}/"]
        assert [study["study_name"] for study in studies] == ["known"]
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)


def asked(address: str, limit_s: float) -> Any:
    """JSON of a server that is about to start."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return json.load(answer)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_an_address_can_be_opened() -> None:
    assert main.address("127.0.0.1", 8060) == "http://127.0.0.1:8060/"
    assert main.address("::1", 80, "t") == "http://[::1]:80/?token=t"


def test_the_real_process_answers_and_ends_cleanly(workplace: Path, make_study: Callable[..., Study]) -> None:
    make_study(**{"search.trials": 2}).search()
    words = [sys.executable, "-m", "search.cli", "dashboard", "known", "--port", "0"]
    root = str(Path(__file__).resolve().parents[4])
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, cwd=workplace, text=True, env={"PYTHONPATH": root}, **pipes) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            address = process.stdout.readline().split()[1]
            assert address.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(address, timeout=LIMIT_S) as answer:
                assert "ParetoPrune" in answer.read(200_000).decode()
            process.send_signal(signal.SIGINT)
            process.wait(LIMIT_S)
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()
