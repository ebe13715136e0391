"""Runtimes of small boards, and the conversion of a module to their files."""
