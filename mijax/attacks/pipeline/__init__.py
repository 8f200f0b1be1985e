"""Attacks by who has a say in the training."""
