"""What the trials of a run mean together: front, picks, verdict, and the snapshot that others show."""
