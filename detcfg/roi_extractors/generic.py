"""Pooling of each roi from all feature maps.

Shapes: R rois; feature maps (B, C, H_i, W_i).
"""

from __future__ import annotations

from typing import Literal

import torch
from attrs import frozen
from torch import Tensor

from detcfg.layers.plugin import PluginLayerConfig
from detcfg.roi_extractors.base import RoIExtractor, RoIExtractorConfig, roi_rescale


@frozen(kw_only=True)
class GenericRoIExtractorConfig(RoIExtractorConfig):
    """GRoIE (Rossi et al., 2020, https://arxiv.org/abs/2004.13665).

    Follows mmdet/models/roi_heads/roi_extractors/generic_roi_extractor.py.
    """

    aggregation: Literal["sum", "concat"] = "sum"
    """How the features of a roi from all levels are combined."""
    pre_cfg: PluginLayerConfig | None = None
    """A layer on the pooled features of each level, shared by all; None: there is none."""
    post_cfg: PluginLayerConfig | None = None
    """A layer on the combined features; None: there is none."""

    def gathered_channels(self, in_channels: int, levels: int) -> int:
        return in_channels if self.aggregation == "sum" else in_channels * levels

    @property
    def level_channels(self) -> int:
        levels = 1 if self.aggregation == "sum" else len(self.featmap_strides)
        return self.out_channels // levels

    def build(self) -> GenericRoIExtractor:
        return GenericRoIExtractor(self.resolved())


class GenericRoIExtractor(RoIExtractor):
    """`post_module(aggregate(pre_module(pooled)))`."""

    def __init__(self, config: GenericRoIExtractorConfig) -> None:
        super().__init__(config)
        self.aggregation = config.aggregation
        pre, post = config.pre_cfg, config.post_cfg
        self.pre_module = None if pre is None else pre.build_for(config.level_channels)
        self.post_module = None if post is None else post.build_for(config.out_channels)

    def forward(
        self, features: tuple[Tensor, ...], rois: Tensor, roi_scale_factor: float | None = None
    ) -> Tensor:
        if roi_scale_factor is not None:
            rois = roi_rescale(rois, roi_scale_factor)
        pooled = [layer(x, rois) for layer, x in zip(self.roi_layers, features, strict=False)]
        if self.pre_module is not None:
            pooled = [self.pre_module(x) for x in pooled]
        whole = torch.cat(pooled, dim=1) if self.aggregation == "concat" else torch.stack(pooled).sum(dim=0)
        return whole if self.post_module is None else self.post_module(whole)
