"""Heads that classify and refine what is pooled from a RoI."""
