"""Papers whose adversary has a say in the training."""
