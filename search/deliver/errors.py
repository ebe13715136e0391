"""What can go wrong when a model is delivered.

    ParetoPruneError
    `-- DeliveryError
        |-- ExportFailed     the exporter stopped, or wrote an artefact that cannot be opened
        `-- CheckFailed      the artefact exists but is not the model: outputs or accuracy differ too much

A missing package is objectives.BackendMissing, a format that does not exist is search.errors.ConfigError; both are
raised before any work.
"""

from __future__ import annotations

from search.errors import ParetoPruneError


class DeliveryError(ParetoPruneError):
    """A model could not be delivered."""


class ExportFailed(DeliveryError):
    """The exporter failed; nothing was written."""


class CheckFailed(DeliveryError):
    """An exported artefact did not pass its checks; it was not delivered, export.json says why."""
