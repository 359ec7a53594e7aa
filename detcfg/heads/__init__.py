"""Heads: dense heads, RoI heads, bbox heads and mask heads."""
