"""Notification: `notify.command` of the study runs once when a search ends.

The command is the user's own shell line; the summary comes on its standard input and the facts in PARETOPRUNE_RUN,
PARETOPRUNE_NAME and PARETOPRUNE_STATE. A failure is only logged to search.log.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from search.callbacks.callback import Callback
from search.errors import Interrupted

if TYPE_CHECKING:
    from search.study import Study

TIMEOUT_S = 60.0
_log = logging.getLogger("search")


class Notifier(Callback):
    """Runs a command when a search has ended, also one that gave up; who interrupts one knows."""

    def __init__(self, command: str) -> None:
        self._command = command

    def on_search_end(self, study: Study, error: BaseException | None) -> None:
        from search.present.summary import summary

        if not isinstance(error, Interrupted | KeyboardInterrupt):
            notify(self._command, study.record.path, study.state(), "\n".join(summary(study.snapshot())) + "\n")


def notify(command: str, run: Path, state: str, text: str) -> bool:
    """Run `command` with `text` on its standard input; False if it failed or took longer than a minute."""
    facts = {"PARETOPRUNE_RUN": str(run), "PARETOPRUNE_NAME": run.name, "PARETOPRUNE_STATE": state}
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            input=text,
            env={**os.environ, **facts},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_S,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:  # whose text repeats the command, and so a secret in it
        _log.warning("notify.command took longer than %.0f s", TIMEOUT_S)
        return False
    except OSError as error:
        _log.warning("notify.command: %s", error.strerror or type(error).__name__)
        return False
    if done.returncode:
        said = _without_addresses(done.stderr, command).strip()[-500:]
        _log.warning("notify.command ended with %d: %s", done.returncode, said)
    return done.returncode == 0


def _without_addresses(text: str, command: str) -> str:
    """Return what the command said without the addresses in it, and without their paths: a webhook's are its secret."""
    found = [one.rstrip(";)|&") for one in re.findall(r"[\w+.-]+://[^\s'\"]+", command)]
    for address in sorted(found, key=len, reverse=True):
        _, _, rest = address.partition("://")
        _, _, path = rest.partition("/")
        for part in filter(None, (address, rest, path)):
            text = text.replace(part, "...")
    return text
