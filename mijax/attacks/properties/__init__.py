"""Inference of properties of a training set from a released model."""
