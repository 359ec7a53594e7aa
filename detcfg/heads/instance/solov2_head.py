"""The head of SOLOv2.

Shapes: B images; features are (B, C, H_i, W_i); level i has a grid of G_i x G_i cells, numbered row by
row; K classes; E channels of the mask features.
"""

from __future__ import annotations

from typing import Literal, Self

import torch.nn.functional as F
from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.config import ConfigError, fill, is_unset
from detcfg.config.ranges import OneOrMoreLayers, PositiveInt
from detcfg.heads.dense.towers import conv_tower, init_classifier, init_convs
from detcfg.heads.instance.solo_head import SOLOHead, SOLOHeadConfig, SOLOPredictions, resize_features
from detcfg.heads.instance.solov2_mask_feat import SOLOV2MaskFeatModuleConfig
from detcfg.layers.conv import ConvConfig
from detcfg.layers.coordinates import with_coordinates
from detcfg.precision import widened


@frozen(kw_only=True)
class SOLOV2HeadConfig(SOLOHeadConfig):
    """A convolution kernel for each cell of a grid (Wang et al., 2020, https://arxiv.org/abs/2003.10152).

    Follows mmdet/models/dense_heads/solov2_head.py.
    """

    feat_channels: PositiveInt = 512
    """Channels of the hidden layers."""
    stacked_convs: OneOrMoreLayers = 4
    """Layers of each tower."""
    cls_down_index: Literal[0] = 0
    """Features are resized to the grid before both towers."""
    mask_feature_head: SOLOV2MaskFeatModuleConfig = SOLOV2MaskFeatModuleConfig()
    """The features that the kernels are applied to."""
    dynamic_conv_size: PositiveInt = 1
    """Side of the kernels, which is odd."""
    dcn_cfg: ConvConfig | None = None
    """The kind of convolution of the two towers; None: the ordinary one."""
    dcn_apply_to_all_conv: bool = True
    """Whether `dcn_cfg` is for all layers of a tower or for the last."""

    def wired(self) -> Self:
        wired = super().wired()
        if wired.dynamic_conv_size % 2 == 0:
            raise ConfigError(f"dynamic_conv_size is {wired.dynamic_conv_size}, and a kernel's side is odd.")
        if is_unset(wired.in_strides):
            return wired
        features = fill(wired.mask_feature_head, "in_channels", in_channels=wired.in_channels)
        features = fill(features, "in_strides", mask_stride=wired.in_strides[0])
        if features.end_level >= len(wired.in_strides):
            raise ConfigError(
                f"mask_feature_head.end_level is {features.end_level}, but in_strides is "
                f"{wired.in_strides}: there are levels 0 to {len(wired.in_strides) - 1}."
            )
        return evolve(wired, mask_feature_head=features)

    def tower(self, in_channels: int) -> nn.Sequential:
        kind = self.dcn_cfg if self.dcn_apply_to_all_conv else None
        kinds = [kind] * (self.stacked_convs - 1) + [self.dcn_cfg]
        return conv_tower(in_channels, self.feat_channels, kinds, norm_cfg=self.norm_cfg)

    def build(self) -> SOLOV2Head:
        return SOLOV2Head(self.resolved())


class SOLOV2Head(SOLOHead):
    """One tower for classes and one, which sees coordinates, for kernels."""

    shared_cells = True

    def __init__(self, config: SOLOV2HeadConfig) -> None:
        super().__init__(config)
        self.dynamic_conv_size = config.dynamic_conv_size
        features = config.mask_feature_head
        self.mask_feature_head = features.build()
        self.feature_stride = features.mask_stride
        self.kernel_convs = config.tower(config.in_channels + 2)
        self.cls_convs = config.tower(config.in_channels)
        kernel_size = features.out_channels * config.dynamic_conv_size**2
        self.conv_kernel = nn.Conv2d(config.feat_channels, kernel_size, 3, padding=1)
        self.conv_cls = nn.Conv2d(config.feat_channels, config.num_classes, 3, padding=1)
        init_convs(self)
        init_classifier(self.conv_cls)

    def _init_layers(self, config: SOLOHeadConfig) -> None:
        """None of SOLO's layers."""

    def forward(self, features: tuple[Tensor, ...]) -> SOLOPredictions:
        """The masks are (B, E * size^2, G_i, G_i) kernels of each level and (B, E, H_0, W_0) features."""
        mask_features = self.mask_feature_head(features)
        cls_scores: list[Tensor] = []
        kernels: list[Tensor] = []
        for x, grid in zip(resize_features(features), self.num_grids, strict=True):
            cells = F.interpolate(with_coordinates(x), size=(grid, grid), mode="bilinear")
            kernels.append(self.conv_kernel(self.kernel_convs(cells)))
            cls_scores.append(self.conv_cls(self.cls_convs(cells[:, :-2])))
        return SOLOPredictions(
            widened(tuple(cls_scores)), (widened(tuple(kernels)), (widened(mask_features),))
        )

    def mask_stride(self, level: int) -> float:
        del level
        return self.feature_stride

    def cell_masks(self, predictions: SOLOPredictions, image: int, level: int, cells: Tensor) -> Tensor:
        kernels, (mask_features,) = predictions.masks
        weights = kernels[level][image].flatten(1)[:, cells].T
        if len(cells) == 0:  # torch has no convolution to no channels
            return mask_features[image, :0] * weights.sum()
        size = self.dynamic_conv_size
        # MMDetection does not pad, so that a kernel larger than 1 x 1 fails there.
        kernel = weights.reshape(len(cells), -1, size, size)
        masks: Tensor = widened(F.conv2d(mask_features[image], kernel, padding=size // 2))
        return masks

    def cell_probabilities(
        self, predictions: SOLOPredictions, image: int, level: int, cells: Tensor
    ) -> Tensor:
        return self.cell_masks(predictions, image, level, cells).sigmoid()
