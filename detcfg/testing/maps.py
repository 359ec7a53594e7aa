"""The contracts of backbones and necks, held without weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.maps import difference
from detcfg.backbones.meta import weights_on_meta
from detcfg.config import Config
from detcfg.necks.base import NeckConfig
from detcfg.testing.expect import SIZE, expect


def check_backbone(config: BackboneConfig) -> None:
    with weights_on_meta():
        model = config.build().eval()
        features = model(torch.empty(2, 3, *SIZE))
        skipped = int(config.gives_image)
    check_features(config, model, features[skipped:], config.feature_channels, config.feature_strides)


def check_neck(config: NeckConfig) -> None:
    with weights_on_meta():
        model = config.build().eval()
        inputs = [
            torch.empty(2, channels, SIZE[0] // stride, SIZE[1] // stride)
            for channels, stride in zip(config.in_channels, config.in_strides, strict=True)
        ]
        images = [torch.empty(2, 3, *SIZE)] if config.reads_image else []
        features = model((*images, *inputs))
    check_features(config, model, features, config.feature_channels, config.feature_strides)


def check_features(
    config: Config, model: nn.Module, features: Any, channels: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    """On the meta device: what is made elsewhere does not go with the rest, as on a GPU."""
    expect(config, "forward has to give a tuple of feature maps", holds=isinstance(features, tuple))
    found = difference(features, channels, strides, SIZE)
    expect(config, found, holds=not found)
    for index, x in enumerate(features):
        kept = len(x) == 2 and x.dtype == torch.float32 and x.is_meta
        expect(
            config, f"map {index} of 2 images has to be float32, of 2 images and on their device", holds=kept
        )
    used = _leaves(features)
    unused = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in used]
    expect(config, f"no feature map depends on the parameter {(unused or [''])[0]}", holds=not unused)


def _leaves(outputs: tuple[Tensor, ...]) -> set[int]:
    """The ids of the parameters that a backward pass would reach; walked, since without values it takes long."""
    left: list[Any] = [x.grad_fn for x in outputs]
    seen: set[Any] = set(left)
    found: set[int] = set()
    while left:
        node = left.pop()
        if node is None:
            continue
        if (leaf := getattr(node, "variable", None)) is not None:
            found.add(id(leaf))
        new = {before for before, _ in node.next_functions} - seen
        seen |= new
        left += new
    return found
