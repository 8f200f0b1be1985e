"""mijax: model-inversion attacks and defenses on one footing."""
