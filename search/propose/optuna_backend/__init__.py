"""Optuna behind the proposer: storage, samplers, and what is used of its internals."""
