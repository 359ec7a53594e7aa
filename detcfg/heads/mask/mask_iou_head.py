"""The head of Mask Scoring R-CNN that predicts the IoU of a mask with its object.

Shapes: P positive rois over the whole batch; S the side of pooled features, M = 2 S that of a mask; K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.samplers.base import SamplingResult
from detcfg.config import ModuleConfig, derived
from detcfg.config.ranges import Fraction, OneOrMoreLayers, PositiveInt
from detcfg.heads.mask.base import masks_of
from detcfg.layers.init import kaiming_init, normal_init
from detcfg.losses.base import LossConfig
from detcfg.losses.mse import MSELossConfig
from detcfg.losses.reduce import shared_factor
from detcfg.masks import shares_within

EPS: Final = 1e-7
"""Keeps the estimated area of an object finite where none of it lies in the box."""


@frozen(kw_only=True)
class MaskIoUHeadConfig(ModuleConfig):
    """Mask Scoring R-CNN (Huang et al., 2019, https://arxiv.org/abs/1903.00241).

    Follows mmdet/models/roi_heads/mask_heads/maskiou_head.py.
    """

    in_channels: PositiveInt = derived()
    """Channels of the features pooled for masks."""
    roi_feat_size: PositiveInt = derived()
    """S: side of those features."""
    num_classes: PositiveInt = derived()
    """K, without background."""
    num_convs: OneOrMoreLayers = 4
    """Convolutions; the last halves the size."""
    num_fcs: OneOrMoreLayers = 2
    """Linear layers before the IoUs."""
    conv_out_channels: PositiveInt = 256
    """Channels of the convolutions."""
    fc_out_channels: PositiveInt = 1024
    """Channels of the linear layers."""
    loss_iou: LossConfig = MSELossConfig(loss_weight=0.5)
    """The loss of the IoUs."""
    mask_thr_binary: Fraction = 0.5
    """Cells with a logit above this belong to the predicted mask whose IoU is the target."""

    def build(self) -> MaskIoUHead:
        return MaskIoUHead(self.resolved())


class MaskIoUHead(nn.Module):
    """Pooled features and the logits of a mask to the IoU of the mask with its object, for each class."""

    def __init__(self, config: MaskIoUHeadConfig) -> None:
        super().__init__()
        self.mask_thr_binary = config.mask_thr_binary
        last = config.num_convs - 1
        self.convs = nn.ModuleList(
            nn.Conv2d(
                config.conv_out_channels if index else config.in_channels + 1,
                config.conv_out_channels,
                3,
                stride=2 if index == last else 1,
                padding=1,
            )
            for index in range(config.num_convs)
        )
        area = (-(-config.roi_feat_size // 2)) ** 2
        self.fcs = nn.ModuleList(
            nn.Linear(
                config.fc_out_channels if index else config.conv_out_channels * area, config.fc_out_channels
            )
            for index in range(config.num_fcs)
        )
        self.fc_mask_iou = nn.Linear(config.fc_out_channels, config.num_classes)
        self.loss_iou = config.loss_iou.build()
        for conv in self.convs:
            kaiming_init(conv)
        for fc in self.fcs:
            kaiming_init(fc, a=1, mode="fan_in", nonlinearity="leaky_relu", distribution="uniform")
        normal_init(self.fc_mask_iou, std=0.01)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """Features (P, C, S, S) and the mask logits (P, M, M) of each roi's class to IoUs (P, K)."""
        x = torch.cat((features, F.max_pool2d(logits.sigmoid()[:, None], 2)), dim=1)
        for conv in self.convs:
            x = F.relu(conv(x))
        x = x.flatten(1)
        for fc in self.fcs:
            x = F.relu(fc(x))
        ious: Tensor = self.fc_mask_iou(x)
        return ious

    def of_class(self, features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """(P,): the predicted IoU of each roi's mask for its class, labels (P,)."""
        ious: Tensor = self(features, logits)
        return ious[torch.arange(len(labels), device=labels.device), labels]

    def loss(
        self,
        features: Tensor,
        logits: Tensor,
        mask_targets: Tensor,
        samplings: Sequence[SamplingResult],
    ) -> dict[str, Tensor]:
        """`loss_mask_iou`, averaged over the positives whose masks overlap their objects.

        Args:
            features: (P, C, S, S).
            logits: (P, M, M), of the mask of each positive's class.
            mask_targets: (P, M, M), as the mask head has them.
            samplings: Of each image.
        """
        labels = torch.cat([sampling.pos_gt_labels for sampling in samplings])
        targets = self.targets(logits, mask_targets, samplings)
        weights = (targets > 0).float()
        count = shared_factor(weights.sum(), weights)
        pred = self.of_class(features, logits, labels)
        return {"loss_mask_iou": self.loss_iou(pred, targets, weights, count)}

    @torch.no_grad()
    def targets(self, logits: Tensor, mask_targets: Tensor, samplings: Sequence[SamplingResult]) -> Tensor:
        """(P,): the IoU of each predicted mask, which its box bounds, with the whole mask of its object.

        `mask_targets` hold only what of the object lies in the box. Divided by the fraction of the object that lies
        there, their area is that of the whole object.
        """
        shares = torch.cat(
            [shares_within(masks_of(s.targets), s.pos_priors, s.pos_assigned_gt_inds) for s in samplings]
        )
        masks = (logits > self.mask_thr_binary).float()
        overlaps = (masks * mask_targets).sum((1, 2))
        whole = mask_targets.sum((1, 2)) / (shares + EPS)
        unions = masks.sum((1, 2)) + whole - overlaps
        # Without a union the target is 0, which has no weight; MMDetection's 0 / 0 has none either.
        return overlaps / unions.clamp(min=EPS)
