"""Tracing: exported graph, channel labels, operator rules, coupled groups."""
