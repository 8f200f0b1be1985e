"""Gradient leakage: images and labels from what a client shares."""
