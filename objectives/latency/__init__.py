"""Latency: interleaved measurements with intervals, and the model that predicts them."""
