"""What a model tells of one person's missing field: one file a paper."""
