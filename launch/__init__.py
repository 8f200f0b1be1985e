"""Launching: a sweep is a list of flags, executors run it, one table collects it."""
