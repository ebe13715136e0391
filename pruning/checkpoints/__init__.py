"""Safe loading and atomic writing of checkpoints."""
