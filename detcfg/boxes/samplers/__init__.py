"""Samplers: which of the assigned priors enter the loss."""
