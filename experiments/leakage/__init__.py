"""Leakage from shared updates, a paper a file."""
