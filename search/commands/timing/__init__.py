"""Timing and comparison of models without a search, on this device or another."""
