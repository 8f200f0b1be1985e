"""What every result is compared with: baselines that need no target."""
