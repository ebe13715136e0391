"""For tests of searches: a known front, a simulated clock and engine, contract suites, a kill loop. No torch."""
