"""Pooling of each roi from one feature map, by its size.

Shapes: R rois; feature maps (B, C, H_i, W_i).
"""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from detcfg.config.ranges import PositiveInt
from detcfg.layers.unsort import unsort
from detcfg.roi_extractors.base import RoIExtractor, RoIExtractorConfig, roi_rescale


@frozen(kw_only=True)
class SingleRoIExtractorConfig(RoIExtractorConfig):
    """The extractor of feature pyramids (Lin et al., 2016, https://arxiv.org/abs/1612.03144).

    Follows mmdet/models/roi_heads/roi_extractors/single_level_roi_extractor.py.
    """

    finest_scale: PositiveInt = 56
    """Rois whose size, sqrt(width * height) in pixels, is below twice this are pooled from the first map; each
    doubling moves to the next."""

    def build(self) -> SingleRoIExtractor:
        return SingleRoIExtractor(self.resolved())


class SingleRoIExtractor(RoIExtractor):
    def __init__(self, config: SingleRoIExtractorConfig) -> None:
        super().__init__(config)
        self.finest_scale = config.finest_scale

    def forward(
        self, features: tuple[Tensor, ...], rois: Tensor, roi_scale_factor: float | None = None
    ) -> Tensor:
        levels = self.map_roi_levels(rois)
        if self.num_inputs == 1:
            # As in MMDetection, which rescales only where it chooses among levels.
            pooled: Tensor = self.roi_layers[0](features[0], rois)
            return pooled
        if roi_scale_factor is not None:
            rois = roi_rescale(rois, roi_scale_factor)
        # Sorting by level asks the device how many there are once, not once a level.
        order = levels.argsort(stable=True)
        counts = [int(count) for count in torch.bincount(levels, minlength=self.num_inputs).cpu()]
        parts = torch.split(rois[order], counts)
        # A level without rois takes part too, so that every worker has the same gradients.
        pooled_levels = [
            layer(level, part) for layer, level, part in zip(self.roi_layers, features, parts, strict=False)
        ]
        return unsort(torch.cat(pooled_levels), order)

    def map_roi_levels(self, rois: Tensor) -> Tensor:
        """(R,) int64: the feature map, counted from 0, of each roi (R, 5)."""
        size = torch.sqrt((rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2]))
        levels = torch.floor(torch.log2(size / self.finest_scale + 1e-6))
        return levels.clamp(0, self.num_inputs - 1).long()
