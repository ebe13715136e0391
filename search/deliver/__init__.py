"""Delivery of a trial: the pick's folder, verified artefacts, the model card."""
