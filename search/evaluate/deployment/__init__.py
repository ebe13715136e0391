"""Costs of the deployed network beside its latency: end to end, memory, energy, and what a `command:` prints."""
