"""Studies: a family of attacks a file, which a paper fills in with its own sizes."""
