"""Coders: boxes to regression targets and back."""
