"""What MMDetection builds from each of its configs: a fingerprint of the state dict's names and shapes."""

from __future__ import annotations

import hashlib

import torch
from attrs import evolve
from torch import nn

from detcfg.config import is_unset
from detcfg.detectors.base import DetectorConfig
from tests.support import figures


def digest(model: nn.Module) -> str:
    """The sha256 of the state dict's names and shapes, as the zoo's figures have it."""
    tensors = sorted(model.state_dict().items())
    text = "\n".join(f"{name} {'x'.join(map(str, tensor.shape))}" for name, tensor in tensors)
    return hashlib.sha256(text.encode()).hexdigest()


def check_state_dict(mmdet_config: str, config: DetectorConfig) -> None:
    """Both programs have the same parameters, by name and shape."""
    expected = figures.zoo()[mmdet_config]
    if is_unset(config.num_classes):
        config = evolve(config, num_classes=80)
    with torch.device("meta"):
        model = config.build()

    assert len(model.state_dict()) == expected["tensors"]
    assert sum(p.numel() for p in model.parameters()) == expected["parameters"]
    assert digest(model) == expected["sha256"]
