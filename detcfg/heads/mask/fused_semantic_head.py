"""The semantic segmentation head of Hybrid Task Cascade.

Shapes: B images; features are (B, C, H_i, W_i), finest first; K classes of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor, nn

from detcfg.config import ModuleConfig, derived
from detcfg.config.ranges import NonNegativeInt, NumLayers, PositiveFloat, PositiveInt
from detcfg.errors import DetcfgError
from detcfg.layers.conv import ConvConfig
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.init import kaiming_init
from detcfg.layers.norm import NormConfig
from detcfg.losses.base import ClassLossConfig
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.structures import ImageBatch, Targets

UNKNOWN = 255
"""The label of pixels without ground truth, which the loss ignores."""


@frozen(kw_only=True)
class FusedSemanticHeadConfig(ModuleConfig):
    """The semantic branch of HTC (Chen et al., 2019, https://arxiv.org/abs/1901.07518).

    Follows mmdet/models/roi_heads/mask_heads/fused_semantic_head.py.
    """

    in_channels: PositiveInt = derived()
    """Channels of every feature map."""
    num_ins: PositiveInt = derived()
    """Number of feature maps."""
    fusion_level: NonNegativeInt = 1
    """The feature map, counted from 0, to whose size the others are resized."""
    seg_scale_factor: PositiveFloat = 1 / 8
    """Size of that map divided by the image's: the ground truth is resized by it."""
    num_convs: NumLayers = 4
    """Convolutions after the sum of the feature maps."""
    conv_out_channels: PositiveInt = 256
    """Channels of these convolutions, and of the features that are fused with those of rois."""
    num_classes: PositiveInt = 183
    """K: classes of pixels, stuff included; not the detector's classes."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig | None = None
    """The norm after each convolution; None: a bias instead."""
    loss_seg: ClassLossConfig = CrossEntropyLossConfig(ignore_index=UNKNOWN, loss_weight=0.2)
    """The loss of the pixels."""

    def wired(self) -> Self:
        wired = super().wired()
        wired.loss_seg.check_classes(wired.num_classes, wired.num_classes)
        return wired

    def build(self) -> FusedSemanticHead:
        return FusedSemanticHead(self.resolved())


class FusedSemanticHead(nn.Module):
    """Feature maps through 1x1 convolutions, resized and summed, then through 3x3 convolutions."""

    def __init__(self, config: FusedSemanticHeadConfig) -> None:
        super().__init__()
        self.fusion_level = config.fusion_level
        self.seg_scale_factor = config.seg_scale_factor
        width = config.conv_out_channels

        def conv(before: int, after: int, size: int) -> ConvModule:
            return ConvModule(
                before,
                after,
                size,
                padding=size // 2,
                conv_cfg=config.conv_cfg,
                norm_cfg=config.norm_cfg,
            )

        channels = config.in_channels
        self.lateral_convs = nn.ModuleList(conv(channels, channels, 1) for _ in range(config.num_ins))
        self.convs = nn.ModuleList(
            conv(channels if index == 0 else width, width, 3) for index in range(config.num_convs)
        )
        self.conv_embedding = conv(width, width, 1)
        self.conv_logits = nn.Conv2d(width, config.num_classes, 1)
        kaiming_init(self.conv_logits)
        self.criterion = config.loss_seg.build()

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Logits (B, K, H_i, W_i) and features (B, C', H_i, W_i), of the size of the `fusion_level`."""
        fused: Tensor = self.lateral_convs[self.fusion_level](features[self.fusion_level])
        for index, level in enumerate(features):
            if index != self.fusion_level:
                resized = F.interpolate(level, fused.shape[-2:], mode="bilinear", align_corners=True)
                fused = fused + self.lateral_convs[index](resized)
        for conv in self.convs:
            fused = conv(fused)
        return self.conv_logits(fused), self.conv_embedding(fused)

    def loss(self, logits: Tensor, batch: ImageBatch, targets: Sequence[Targets]) -> dict[str, Tensor]:
        """`loss_semantic_seg`, averaged over all pixels, those without ground truth included (as in MMDetection).

        Raises:
            DetcfgError: The targets have no semantic segmentation.
        """
        height, width = batch.tensor.shape[-2:]
        maps = [_semantic(image) for image in targets]
        padded = torch.stack(
            [F.pad(m, (0, width - m.shape[-1], 0, height - m.shape[-2]), value=UNKNOWN) for m in maps]
        )
        scaled = F.interpolate(padded[:, None].float(), scale_factor=self.seg_scale_factor, mode="nearest")
        return {"loss_semantic_seg": self.criterion(logits, scaled[:, 0].long())}


def _semantic(targets: Targets) -> Tensor:
    if targets.semantic is None:
        raise DetcfgError(
            "The model has a semantic_head, which is trained on the class of each pixel, but the targets have none. "
            "Give `Targets` its `semantic`, or leave semantic_head out."
        )
    return targets.semantic
