"""Fixtures of the searches that these scenarios run."""

from __future__ import annotations

from tests.search.conftest import make_study, planned, planned_once, tiny, workplace

__all__ = ["make_study", "planned", "planned_once", "tiny", "workplace"]
