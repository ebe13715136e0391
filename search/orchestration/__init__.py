"""The search itself: the loop, when it ends, and what comes after the last trial."""
