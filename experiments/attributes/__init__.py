"""Papers on attribute inference."""
