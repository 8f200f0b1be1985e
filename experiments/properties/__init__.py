"""Papers on properties of a training set."""
