"""Attacks from a seat in a federated training."""
