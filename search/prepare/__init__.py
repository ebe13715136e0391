"""Before the first trial: checks, the base, probes, and what a search needs to begin."""
