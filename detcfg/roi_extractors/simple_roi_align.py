"""Pooling by one sample a bin.

Shapes: R rois; feature maps (B, C, H, W).
"""

from __future__ import annotations

from attrs import frozen
from torch import Tensor, nn

from detcfg.config.ranges import PositiveInt
from detcfg.layers.points import regular_grid, sample_rois
from detcfg.roi_extractors.base import RoILayerConfig


@frozen(kw_only=True)
class SimpleRoIAlignConfig(RoILayerConfig):
    """The pooling of PointRend (Kirillov et al., 2020, https://arxiv.org/abs/1912.08193).

    Follows `SimpleRoIAlign` in mmcv/ops/point_sample.py.
    """

    output_size: PositiveInt = 14
    """Side of the pooled features, in bins."""
    aligned: bool = True
    """Whether the value of a cell stands at its centre; False: `grid_sample` with `align_corners=True`."""

    def build_for(self, stride: int, channels: int) -> SimpleRoIAlign:
        del channels
        return SimpleRoIAlign(self.output_size, stride, aligned=self.aligned)


class SimpleRoIAlign(nn.Module):
    """Samples the feature map at the centre of each bin, bilinearly."""

    def __init__(self, output_size: int, stride: int, *, aligned: bool = True) -> None:
        super().__init__()
        self.output_size = output_size
        self.stride = stride
        self.aligned = aligned

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        rois = rois.float()
        points = regular_grid(self.output_size, rois).expand(len(rois), -1, -1)
        pooled = sample_rois(features, rois, points, self.stride, align_corners=not self.aligned)
        return pooled.reshape(len(rois), features.shape[1], self.output_size, self.output_size)
