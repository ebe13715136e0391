"""Preparation of a search: checks, base measurement, latency probes, sensitivity curves."""
