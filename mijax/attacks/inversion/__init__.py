"""Inversion of a trained model: images of its classes."""
