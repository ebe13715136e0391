"""Execution of trials: processes of this machine, or a Ray cluster."""
