"""Models pruned and fine-tuned without a search."""
