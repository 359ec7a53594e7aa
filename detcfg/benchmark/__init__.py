"""How fast an experiment is, and how fast it could be."""
