"""Experiments, one a paper: `python -m experiments.NAME --help`."""
