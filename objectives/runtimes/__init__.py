"""Inference runtimes to measure latency on, one module each."""
