"""A target as a study has it: what its pack set, and what is measured in the device's place. Part of args.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from search.config.targets.limits import Limits
from search.config.targets.pack import PackExport


class TargetRecord(Limits):
    """The target of a study, resolved: a run goes on by this, whatever becomes of the pack.

    `sets`: dotted key -> value that the pack set. `kept`: dotted key -> the pack's value, where the study has its own.
    `forbidden`: moves of the search that are off, dotted, with the reason. `measured`: what is measured instead of the
    device, a sentence each.
    """

    name: str
    device: str
    title: str = ""
    sets: dict[str, Any] = Field(default_factory=dict)
    kept: dict[str, Any] = Field(default_factory=dict)
    forbidden: dict[str, str] = Field(default_factory=dict)
    measured: tuple[str, ...] = ()
    export: PackExport = PackExport()
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def said(self) -> tuple[str, ...]:
        """Return what a search says of its target before it begins, a sentence each."""
        name, own = self.name, "nothing: the study has all its keys"
        found = [f"target {name} sets {', '.join(f'{key}: {shown(value)}' for key, value in self.sets.items()) or own}"]
        found += [f"{key} is the study's own; target {name} has {shown(value)}" for key, value in self.kept.items()]
        found += [f"{move} is off: {reason}" for move, reason in self.forbidden.items()]
        return (*found, *self.measured)


def shown(value: object) -> str:
    """Return a value as a study writes it, in one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {shown(one)}' for key, one in value.items())}}}"
    return str(value)
