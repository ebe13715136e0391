"""Measurement of candidates, the base and baselines."""
