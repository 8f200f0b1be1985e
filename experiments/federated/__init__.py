"""Papers on adversaries inside federated learning."""
