"""Accuracy: validation runs, their batches, and the intervals of what they find."""
