"""What can go wrong when a model is delivered.

    ParetoPruneError
    `-- DeliveryError               carries the report of what was made
        |-- ExportFailed   exit 1   the exporter stopped, or wrote an artefact that cannot be opened
        `-- CheckFailed    exit 3   the artefact exists but is not the model: outputs or accuracy differ by more than
                                    was allowed; its figures are named, as the closest is when no trial fits a budget

A missing package is objectives.BackendMissing, a format that does not exist is search.errors.ConfigError; both are
raised before any work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from search.errors import ParetoPruneError

if TYPE_CHECKING:
    from search.export.report import ExportReport


class DeliveryError(ParetoPruneError):
    """A model could not be delivered, or not in all forms; `report` says what was, where there is one."""

    report: ExportReport | None = None


class ExportFailed(DeliveryError):
    """The exporter failed; this artefact was not written."""


class CheckFailed(DeliveryError):
    """An exported artefact did not pass its checks; it was not delivered, export.json says why."""

    exit_code = 3
