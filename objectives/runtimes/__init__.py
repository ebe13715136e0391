"""Runtimes that a network is timed on, one module each."""
