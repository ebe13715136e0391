"""Inputs of a study: a checkpoint, a data set, the user's own code."""
