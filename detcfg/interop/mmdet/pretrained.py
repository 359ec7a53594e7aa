"""MMDetection's names of pretrained weights as detcfg's."""

from __future__ import annotations

import re
from typing import Final

TORCHVISION: Final = {
    "resnet18": "ResNet18_Weights",
    "resnet34": "ResNet34_Weights",
    "resnet50": "ResNet50_Weights",
    "resnet101": "ResNet101_Weights",
    "resnet152": "ResNet152_Weights",
    "resnext50_32x4d": "ResNeXt50_32X4D_Weights",
    "resnext101_32x8d": "ResNeXt101_32X8D_Weights",
    "mobilenet_v2": "MobileNet_V2_Weights",
    "vgg16": "VGG16_Weights",
    "swin_t": "Swin_T_Weights",
}
"""The weights that MMDetection fetched from torchvision are the first that torchvision published."""


def pretrained_of(source: str, backbone: str) -> str | None:
    """detcfg's `pretrained` for a checkpoint's name, or None if there is none.

    Args:
        source: `torchvision://resnet50`, the path of a file, or an address.
        backbone: The config class of the backbone.
    """
    del backbone
    if found := re.fullmatch(r"torchvision://(\w+)", source):
        weights = TORCHVISION.get(found[1])
        return None if weights is None else f"{weights}.IMAGENET1K_V1"
    return None if "://" in source else source
