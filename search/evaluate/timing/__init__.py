"""Latency measurement of trials, and its locking."""
