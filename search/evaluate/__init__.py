"""What is measured about a candidate, and how a trial is kept apart from the coordinator."""
