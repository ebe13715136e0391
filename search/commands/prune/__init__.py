"""Pruning and fine-tuning of models without a search."""
