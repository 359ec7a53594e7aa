"""Losses: one function and one config each."""
