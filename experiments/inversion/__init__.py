"""Papers on model inversion."""
