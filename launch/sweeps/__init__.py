"""Sweeps: each file holds a function `sweep` that returns a list of flags."""
