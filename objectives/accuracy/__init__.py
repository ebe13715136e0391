"""Accuracy: validation runs, cached batches and bootstrap intervals."""
