"""Detectors: wire backbone, neck and heads."""
