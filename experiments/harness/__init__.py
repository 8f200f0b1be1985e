"""How an experiment is run. Nothing here knows a paper."""
