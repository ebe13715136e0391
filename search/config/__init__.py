"""Configuration: study.yaml, its sections and validation, and the inputs that it names."""
