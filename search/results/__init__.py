"""Results of a run: front, picks, verdict, and the snapshot for display."""
