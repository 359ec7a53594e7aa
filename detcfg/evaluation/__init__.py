"""Detections to average precision."""
