"""Papers on models that are updated online."""
