"""The shipped experiments as narrow models, quick enough to train each of them for a step."""

from __future__ import annotations

from typing import Any, Final, cast

import attrs
import torch
from attrs import evolve, frozen

from detcfg.backbones.hgnetv2 import HGNetV2Config
from detcfg.backbones.resnet import ResNetConfig
from detcfg.config import Config, is_unset
from detcfg.heads.roi.res_layer import ResLayerConfig
from detcfg.layers.norm import GNConfig
from detcfg.structures import Targets

WIDTH: Final = 32
"""Channels of the layers whose width a config names."""
BASE_CHANNELS: Final = 8
"""Of a ResNet and its kin: an eighth of what they have."""
SIDE: Final = 64
"""Pixels of an image's side."""
LARGER: Final = {"detectors": 128}
"""Its atrous convolutions reflect two pixels of the coarsest map, which has to have three."""


def narrow(value: Any, **others: Any) -> Any:
    """A config whose layers are few channels wide, and as many as ever.

    Args:
        value: A config, or a tuple of some; those within it change too.
        others: Values for other fields, by name, in all configs that have them.
    """
    if isinstance(value, tuple):
        return tuple(narrow(item, **others) for item in cast("tuple[object, ...]", value))
    if not isinstance(value, Config):
        return value
    fields = {name: getattr(value, name) for name in attrs.fields_dict(type(value))}
    fields = {name: item for name, item in fields.items() if not is_unset(item)}
    changes: dict[str, Any] = {
        name: narrow(item, **others) for name, item in fields.items() if isinstance(item, Config | tuple)
    }
    changes |= {
        name: min(item, WIDTH)
        for name, item in fields.items()
        if name.endswith("channels") and name != "stem_channels" and isinstance(item, int)
    }
    if "base_channels" in fields:
        changes["base_channels"] = BASE_CHANNELS
    if isinstance(value, GNConfig):
        changes["num_groups"] = 4
    if isinstance(value, HGNetV2Config):
        changes["arch"] = "B0"
    # Few queries, since an image needs as many places.
    smallest = {"hidden_dim": WIDTH, "dim_feedforward": WIDTH, "num_queries": 8, "num_denoising": 4}
    changes |= {name: min(fields[name], least) for name, least in smallest.items() if name in fields}
    changes |= {name: item for name, item in others.items() if name in fields}
    if isinstance(value, ResLayerConfig):
        return NarrowResLayerConfig(**(fields | changes))
    return evolve(value, **changes)


@frozen(kw_only=True)
class NarrowResLayerConfig(ResLayerConfig):
    """The stage of a narrow ResNet."""

    @property
    def resnet(self) -> ResNetConfig:
        return evolve(super().resnet, base_channels=BASE_CHANNELS)


def objects(count: int, side: int) -> Targets:
    """Squares in the upper left of an image."""
    boxes = torch.tensor([[4.0, 4.0, 40.0, 40.0], [10.0, 8.0, 26.0, 24.0]])[:count]
    masks = torch.zeros(count, side, side, dtype=torch.bool)
    corners: list[list[int]] = boxes.int().tolist()
    for mask, box in zip(masks, corners, strict=True):
        mask[box[1] : box[3], box[0] : box[2]] = True
    return Targets(boxes=boxes, labels=torch.arange(count), masks=masks)
