"""What `experiments.gradient_leakage` is made of, one figure or concept a file."""
