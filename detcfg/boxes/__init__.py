"""Geometry without weights: coders, anchors, assigners, samplers, IoU and NMS."""
