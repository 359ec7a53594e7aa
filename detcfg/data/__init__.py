"""Datasets, transforms, the loader and the bundled demo data."""
