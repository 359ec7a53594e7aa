"""The head of PointRend that predicts single points of a mask.

Shapes: P rois with Q points each; C channels of fine features; K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.samplers.base import SamplingResult
from detcfg.config import ModuleConfig, derived
from detcfg.config.ranges import OneOrMoreLayers, PositiveInt
from detcfg.heads.mask.base import masks_of
from detcfg.layers.activation import ActivationConfig, ReLUConfig
from detcfg.layers.conv import Conv1dConfig, ConvConfig
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.init import kaiming_init, normal_init
from detcfg.layers.norm import NormConfig
from detcfg.layers.points import in_pixels
from detcfg.losses.base import LossConfig
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.masks import at_points
from detcfg.roi_extractors.base import bbox2roi


@frozen(kw_only=True)
class MaskPointHeadConfig(ModuleConfig):
    """The point head of PointRend (Kirillov et al., 2020, https://arxiv.org/abs/1912.08193).

    Follows mmdet/models/roi_heads/mask_heads/mask_point_head.py.
    """

    in_channels: PositiveInt = derived()
    """C: channels of the sampled feature maps, concatenated."""
    num_classes: PositiveInt = derived()
    """K, without background."""
    num_fcs: OneOrMoreLayers = 3
    """Layers before the logits, the same for each point."""
    fc_channels: PositiveInt = 256
    """Channels of these layers."""
    class_agnostic: bool = False
    """Whether one logit is predicted for all classes, rather than one for each class."""
    coarse_pred_each_layer: bool = True
    """Whether every layer reads the coarse mask logits, rather than only the first."""
    conv_cfg: ConvConfig = Conv1dConfig()
    """The kind of convolution of these layers."""
    norm_cfg: NormConfig | None = None
    """The norm after each; None: a bias instead."""
    act_cfg: ActivationConfig = ReLUConfig()
    """The activation after each."""
    loss_point: LossConfig = CrossEntropyLossConfig(use_mask=True)
    """The loss of the points."""

    def build(self) -> MaskPointHead:
        return MaskPointHead(self.resolved())


class MaskPointHead(nn.Module):
    """Layers that predict each point from its own features."""

    def __init__(self, config: MaskPointHeadConfig) -> None:
        super().__init__()
        self.class_agnostic = config.class_agnostic
        self.coarse_pred_each_layer = config.coarse_pred_each_layer
        self.loss_point = config.loss_point.build()
        self.fcs = nn.ModuleList()
        channels = config.in_channels + config.num_classes
        for _ in range(config.num_fcs):
            layer = ConvModule(
                channels,
                config.fc_channels,
                1,
                conv_cfg=config.conv_cfg,
                norm_cfg=config.norm_cfg,
                act_cfg=config.act_cfg,
            )
            kaiming_init(layer.conv)
            self.fcs.append(layer)
            channels = config.fc_channels + (config.num_classes if config.coarse_pred_each_layer else 0)
        self.fc_logits = nn.Conv1d(channels, 1 if config.class_agnostic else config.num_classes, 1)
        normal_init(self.fc_logits, std=0.001)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Fine features (P, C, Q) and coarse mask logits (P, K, Q) to logits (P, K, Q) or (P, 1, Q)."""
        x = torch.cat((fine, coarse), dim=1)
        for layer in self.fcs:
            x = layer(x)
            if self.coarse_pred_each_layer:
                x = torch.cat((x, coarse), dim=1)
        logits: Tensor = self.fc_logits(x)
        return logits

    def points_of_labels(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(P, Q): of logits (P, K, Q) or (P, 1, Q) those of each roi's class, labels (P,)."""
        rows = torch.arange(len(logits), device=logits.device)
        return logits[:, 0] if self.class_agnostic else logits[rows, labels]

    def loss(self, logits: Tensor, points: Tensor, samplings: Sequence[SamplingResult]) -> dict[str, Tensor]:
        """`loss_point` of logits (P, K, Q) at points (P, Q, 2) in [0, 1] of the positives' boxes."""
        labels = torch.cat([sampling.pos_gt_labels for sampling in samplings])
        pixels = in_pixels(bbox2roi([sampling.pos_priors for sampling in samplings]), points)
        parts = torch.split(pixels, [sampling.num_pos for sampling in samplings])
        targets = [
            at_points(masks_of(sampling.targets), part, sampling.pos_assigned_gt_inds)
            for sampling, part in zip(samplings, parts, strict=True)
        ]
        return {"loss_point": self.loss_point(self.points_of_labels(logits, labels), torch.cat(targets))}
