"""How trials are timed, and how they take turns on a machine."""
