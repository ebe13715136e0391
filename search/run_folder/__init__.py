"""A run on disk: its records, atomic writing, and locks."""
