"""Reusable modules that know nothing of detection."""
