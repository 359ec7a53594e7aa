"""Heads that predict a mask from what is pooled from a RoI."""
