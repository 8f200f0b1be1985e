"""Launching: a sweep is a product of flags, executors run it, one table collects it."""
