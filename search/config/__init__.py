"""What a user writes: study.yaml, its sections and checks, and what it points at."""
