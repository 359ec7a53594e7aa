"""The contract of RoI extractors: feature maps and rois in, the features of each roi out.

Shapes: R rois (R, 5) = (image index, x1, y1, x2, y2) in network pixels; B images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Self

import torch
from annotated_types import Ge
from attrs import frozen
from torch import Tensor, nn

from detcfg.config import Config, ModuleConfig, derived, fill, is_unset
from detcfg.config.ranges import NonEmpty, Or, PositiveInt
from detcfg.layers.roi_align import roi_align


@frozen(kw_only=True)
class RoILayerConfig(Config, ABC):
    """A config that builds a layer which pools rois from one feature map."""

    output_size: PositiveInt
    """Side of the pooled features, in bins."""

    @abstractmethod
    def build_for(self, stride: int, channels: int) -> nn.Module:
        """The layer `(features (B, C, H, W), rois (R, 5)) -> (R, C, side, side)` for a feature map of this stride."""


@frozen(kw_only=True)
class RoIAlignConfig(RoILayerConfig):
    """RoIAlign (He et al., 2017, https://arxiv.org/abs/1703.06870)."""

    output_size: PositiveInt = 7
    """Side of the pooled features, in bins."""
    sampling_ratio: Annotated[int, Ge(0), Or(-1, "adaptive, as 0")] = 0
    """Samples along each side of a bin; 0: as many as it covers cells of the feature map."""
    aligned: bool = True
    """Whether the value of a cell stands at its centre; False: at its corner, as in torchvision's detectors."""

    def build_for(self, stride: int, channels: int) -> RoIAlign:
        del channels
        return RoIAlign(self.output_size, 1 / stride, self.sampling_ratio, aligned=self.aligned)


class RoIAlign(nn.Module):
    """Pools rois from one feature map, in float32."""

    def __init__(
        self, output_size: int, spatial_scale: float, sampling_ratio: int, *, aligned: bool = True
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        # In half precision a coordinate of 1000 pixels is off by a quarter of a pixel.
        pooled = roi_align(
            features.float(),
            rois.float(),
            (self.output_size, self.output_size),
            spatial_scale=self.spatial_scale,
            sampling_ratio=self.sampling_ratio,
            aligned=self.aligned,
        )
        return pooled.to(features.dtype)


@frozen(kw_only=True)
class RoIExtractorConfig(ModuleConfig):
    """A config that builds a `RoIExtractor`."""

    roi_layer: RoILayerConfig = RoIAlignConfig()
    """Pools rois from one feature map."""
    out_channels: PositiveInt = derived()
    """Channels of the pooled features: by default those of the feature maps."""
    featmap_strides: NonEmpty[PositiveInt] = derived()
    """Strides of the feature maps to pool from, the first of the head's: by default those of at most
    `MAX_STRIDE`."""

    @abstractmethod
    def build(self) -> RoIExtractor: ...

    def fed(self, in_channels: int, in_strides: tuple[int, ...]) -> Self:
        """This config with its inputs filled in: the feature maps of a RoI head.

        Raises:
            ConfigError: It was given other channels, or strides that are not the first of the head's.
        """
        given = () if is_unset(self.featmap_strides) else self.featmap_strides
        fine = tuple(stride for stride in in_strides if stride <= MAX_STRIDE)
        strides = in_strides[: len(given) or len(fine) or 1]
        channels = self.gathered_channels(in_channels, len(strides))
        return fill(fill(self, "in_strides", featmap_strides=strides), "in_channels", out_channels=channels)

    def gathered_channels(self, in_channels: int, levels: int) -> int:
        """Channels of the pooled features of a roi, for `levels` feature maps of `in_channels` each."""
        del levels
        return in_channels

    @property
    def level_channels(self) -> int:
        """Channels of each feature map."""
        return self.out_channels


MAX_STRIDE = 32
"""On coarser maps all but the largest rois have fewer cells than bins."""


class RoIExtractor(nn.Module):
    """Pools rois from feature maps, finest first. It reads the first `num_inputs` of those it gets."""

    def __init__(self, config: RoIExtractorConfig) -> None:
        super().__init__()
        self.out_channels = config.out_channels
        self.output_size = config.roi_layer.output_size
        self.num_inputs = len(config.featmap_strides)
        self.roi_layers = nn.ModuleList(
            config.roi_layer.build_for(stride, config.level_channels) for stride in config.featmap_strides
        )

    def forward(
        self, features: tuple[Tensor, ...], rois: Tensor, roi_scale_factor: float | None = None
    ) -> Tensor:
        """(R, C, side, side). `roi_scale_factor` enlarges each roi about its centre before pooling."""
        raise NotImplementedError


def bbox2roi(boxes: Sequence[Tensor]) -> Tensor:
    """The boxes (n_i, 4) of each image as rois (R, 5) = (image index, x1, y1, x2, y2), image by image."""
    images = [torch.full_like(image[:, :1], index) for index, image in enumerate(boxes)]
    return torch.cat([torch.cat(pair, dim=1) for pair in zip(images, boxes, strict=True)])


def roi_rescale(rois: Tensor, factor: float) -> Tensor:
    """The rois (R, 5) enlarged about their centres."""
    center = (rois[:, 1:3] + rois[:, 3:5]) * 0.5
    half = (rois[:, 3:5] - rois[:, 1:3]) * factor * 0.5
    return torch.cat([rois[:, :1], center - half, center + half], dim=1)
