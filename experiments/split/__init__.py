"""Papers on split networks."""
