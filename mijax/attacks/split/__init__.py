"""Split networks: the input of what crosses from one half to the other."""
