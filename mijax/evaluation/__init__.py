"""Who grades an attack: independent judges, and baselines without the target."""
