"""`module.py:function` in a study: a user's own model and task.

Parses the text only; the file is executed by the processes that train and measure (`search.evaluate.user_task`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.config.inputs.paths import absolute
from search.errors import ConfigError

TASK = "task"
"""The name in the model's own file that is taken where a study names no task."""
_REFERENCE = re.compile(r"(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)(?:@(?P<data>.+))?")


@dataclass(frozen=True)
class UserReference:
    """A name in a Python file, and the path of the task's data, if any."""

    file: Path
    name: str
    data: str | None = None

    @classmethod
    def parse(cls, text: object) -> UserReference | None:
        """Parse `ef.py:task` or `ef.py:task@data/clips`; None for anything else, such as a checkpoint's path."""
        match = _REFERENCE.fullmatch(str(text))
        return None if match is None else cls(Path(match["file"]), match["name"], match["data"])

    @classmethod
    def required(cls, text: object) -> UserReference:
        """Parse as `parse`. Raises ConfigError for anything else."""
        found = cls.parse(text)
        if found is None:
            raise ConfigError(f"{text} is no reference to code of your own", expected="module.py:function")
        return found

    def __str__(self) -> str:
        return f"{self.file}:{self.name}" + (f"@{self.data}" if self.data else "")


def refuse_own(model: object, what: str, instead: str) -> None:
    """Raise ConfigError if the model is the user's own network, which `what` does not support.

    Args:
        instead: a command with a similar effect.
    """
    if UserReference.parse(model) is not None:
        raise ConfigError(
            f"{model} is a network of your own; {what} is made for Ultralytics models, whose training it knows",
            where="model=",
            expected="a checkpoint (.pt)",
            next_command=instead,
        )


def located(text: str, folder: Path) -> str:
    """Make the paths of a reference absolute, relative to `folder`; return other text unchanged."""
    found = UserReference.parse(text)
    if found is None:
        return text
    data = None if found.data is None else str(absolute(Path(found.data), folder))
    return str(UserReference(absolute(found.file, folder), found.name, data))


def with_task(study: Mapping[str, Any]) -> dict[str, Any]:
    """Return a study of the user's own model with its `task` merged into `data`; others unchanged.

    `task: ef.py:task` and `data: clips` become `data: ef.py:task@clips`. Without a task, the one called `task` in the
    model's file is used.
    """
    found = dict(study)
    model, task, data = UserReference.parse(found.get("model")), found.pop("task", None), found.get("data")
    if (model is None and task is None) or UserReference.parse(data) is not None:
        return found
    named = UserReference.parse(task) or (UserReference(model.file, str(task or TASK)) if model else None)
    if named is None:
        return {**found, "task": task}  # refused as an unknown key: a checkpoint brings its task along
    return {**found, "data": str(UserReference(named.file, named.name, None if data is None else str(data)))}
