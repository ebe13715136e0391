"""What is measured about a candidate, about the base, and about baselines."""
