"""Exceptions of exporting and delivering a model.

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
    """A model could not be delivered, or not in all forms; `report`, if any, lists the delivered ones."""

    report: ExportReport | None = None


class ExportFailed(DeliveryError):
    """The exporter failed; this artefact was not written."""


class CheckFailed(DeliveryError):
    """An artefact did not pass its checks and was not delivered; export.json gives the reason."""

    exit_code = 3
