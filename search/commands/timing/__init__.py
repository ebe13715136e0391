"""Models timed and compared without a search, on this device or another."""
