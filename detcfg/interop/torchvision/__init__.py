"""Moving in from torchvision: its detectors' weights load into detectors that compute what they do.

`models` has its detectors as configs, `weights` converts a state dict.
"""
