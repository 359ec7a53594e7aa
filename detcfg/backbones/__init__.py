"""Backbones: an image to feature maps."""
