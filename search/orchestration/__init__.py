"""The search itself: the loop, its stopping rules, and the steps after the last trial."""
