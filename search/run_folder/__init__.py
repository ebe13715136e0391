"""A run on disk: its records, written whole, and what protects them."""
