"""Files that other runtimes read: made, quantised, compared with their checkpoint."""
