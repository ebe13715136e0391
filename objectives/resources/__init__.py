"""What a deployed network takes besides its latency: the whole pass from picture to objects, memory, energy."""
