"""Presentation of a study: the offline report, the live page, the terminal. All of them display a snapshot."""
