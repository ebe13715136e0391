"""Checkpoints read without trust, and written whole."""
