"""The mask head of Mask R-CNN.

Shapes: P positive rois over the whole batch, n detections of an image; S the side of pooled features,
M that of a mask; K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Self

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.samplers.base import SamplingResult
from detcfg.config import derived, fill, is_unset
from detcfg.config.ranges import NumLayers, PositiveInt
from detcfg.heads.mask.base import MaskHead, MaskHeadConfig, masks_of
from detcfg.layers.conv import Conv2dConfig, ConvConfig, ConvSpec
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.init import kaiming_init
from detcfg.layers.norm import NormConfig
from detcfg.layers.upsample import DeconvUpsampleConfig, UpsampleConfig
from detcfg.losses.base import LossConfig
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.masks import crop_and_resize, paste

PIECE: Final = 128
"""Detections whose masks are predicted at a time: the layers' outputs are far larger than a mask."""


@frozen(kw_only=True)
class FCNMaskHeadConfig(MaskHeadConfig):
    """Mask R-CNN (He et al., 2017, https://arxiv.org/abs/1703.06870).

    Follows mmdet/models/roi_heads/mask_heads/fcn_mask_head.py.
    """

    num_convs: NumLayers = 4
    """Convolutions before the prediction."""
    conv_kernel_size: PositiveInt = 3
    """Side of their kernels."""
    conv_out_channels: PositiveInt = 256
    """Channels of the convolutions and of the upsampling."""
    class_agnostic: bool = False
    """Whether one mask is predicted for all classes, rather than one for each class."""
    upsample_cfg: UpsampleConfig | None = DeconvUpsampleConfig()
    """Upsamples the features before the logits; None: there is no upsampling."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig | None = None
    """The norm after each convolution; None: a bias instead."""
    predictor_cfg: ConvConfig = Conv2dConfig()
    """The kind of convolution of the last layer."""
    loss_mask: LossConfig = CrossEntropyLossConfig(use_mask=True)
    """The loss of the mask logits."""
    mask_size: PositiveInt = derived()
    """M: side of the masks, `roi_feat_size` times the scale of `upsample_cfg`."""
    soft_mask_target: bool = False
    """Whether the target of a cell is the fraction of it that the mask covers, rather than whether that is half."""

    def wired(self) -> Self:
        wired = super().wired()
        if is_unset(wired.roi_feat_size):
            return wired
        return fill(wired, "roi_feat_size", mask_size=wired.drawn_size)

    @property
    def convolved_size(self) -> int:
        """Side of the features after the convolutions: each with an even kernel takes a cell off."""
        return self.roi_feat_size - self.num_convs * (1 - self.conv_kernel_size % 2)

    @property
    def drawn_size(self) -> int:
        """Side of the predicted masks."""
        return self.convolved_size * (1 if self.upsample_cfg is None else self.upsample_cfg.scale_factor)

    def build(self) -> FCNMaskHead:
        return FCNMaskHead(self.resolved())


class FCNMaskHead(MaskHead):
    """Convolutions, an upsampling, and a 1x1 convolution to the logits."""

    def __init__(self, config: FCNMaskHeadConfig) -> None:
        super().__init__()
        self.class_agnostic = config.class_agnostic
        self.mask_size = config.mask_size
        self.soft_mask_target = config.soft_mask_target
        self.loss_mask = config.loss_mask.build()
        width = config.conv_out_channels
        self.convs = nn.ModuleList(
            ConvModule(
                config.in_channels if index == 0 else width,
                width,
                config.conv_kernel_size,
                padding=(config.conv_kernel_size - 1) // 2,
                conv_cfg=config.conv_cfg,
                norm_cfg=config.norm_cfg,
            )
            for index in range(config.num_convs)
        )
        self.add_predictor(config, width if config.num_convs else config.in_channels)

    def add_predictor(self, config: FCNMaskHeadConfig, channels: int) -> None:
        """Set the layers of `draw`, which read `channels`."""
        width, outputs = config.conv_out_channels, 1 if config.class_agnostic else config.num_classes
        self.upsample = None
        if config.upsample_cfg is not None:
            self.upsample = config.upsample_cfg.build_for(channels, width)
            channels = config.upsample_cfg.channels(channels, width)
        self.conv_logits = config.predictor_cfg.build_for(ConvSpec(channels, outputs, 1))
        kaiming_init(self.conv_logits)

    def forward(self, features: Tensor) -> Tensor:
        return self.draw(self.convolved(features))

    def convolved(self, features: Tensor) -> Tensor:
        """(P, C, S, S) to (P, C', S, S): the features before the upsampling."""
        for conv in self.convs:
            features = conv(features)
        return features

    def draw(self, convolved: Tensor) -> Tensor:
        """(P, C', S, S) to the logits."""
        if self.upsample is not None:
            convolved = self.upsample(convolved)
        logits: Tensor = self.conv_logits(convolved)
        return logits

    def loss(
        self, features: Tensor, samplings: Sequence[SamplingResult], canvas: tuple[int, int]
    ) -> dict[str, Tensor]:
        return self.loss_of(self(features), samplings, canvas)

    def loss_of(
        self, logits: Tensor, samplings: Sequence[SamplingResult], canvas: tuple[int, int]
    ) -> dict[str, Tensor]:
        """`loss_mask` of the logits (P, K, M, M) of the positives."""
        labels = torch.cat([sampling.pos_gt_labels for sampling in samplings])
        return {
            "loss_mask": self.loss_mask(self.masks_of_labels(logits, labels), self.targets(samplings, canvas))
        }

    def targets(self, samplings: Sequence[SamplingResult], canvas: tuple[int, int]) -> Tensor:
        """(P, M, M) float in [0, 1]: the mask of each positive's ground truth, cropped to its box and resized."""
        return torch.cat([self._image_targets(sampling, canvas) for sampling in samplings])

    def _image_targets(self, sampling: SamplingResult, canvas: tuple[int, int]) -> Tensor:
        return crop_and_resize(
            masks_of(sampling.targets),
            sampling.pos_priors,
            sampling.pos_assigned_gt_inds,
            (self.mask_size, self.mask_size),
            canvas=canvas,
            binarize=not self.soft_mask_target,
        )

    def masks_of_labels(self, masks: Tensor, labels: Tensor) -> Tensor:
        """(n, M, M): of masks (n, K, M, M) or (n, 1, M, M) that of each roi's class, labels (n,)."""
        rows = torch.arange(len(masks), device=masks.device)
        return masks[:, 0] if self.class_agnostic else masks[rows, labels]

    def logits_of_labels(self, features: Tensor, labels: Tensor) -> Tensor:
        """(n, M, M) float: mask logits of pooled features (n, C, S, S), for each its class, labels (n,)."""
        parts = zip(torch.split(features, PIECE), torch.split(labels, PIECE), strict=True)
        return torch.cat([self.masks_of_labels(self(part), classes).float() for part, classes in parts])

    def probabilities(self, features: Tensor, labels: Tensor) -> Tensor:
        """(n, M, M): the same as probabilities."""
        return self.logits_of_labels(features, labels).sigmoid()

    def predict(
        self, features: Tensor, boxes: Tensor, labels: Tensor, size: tuple[int, int], threshold: float
    ) -> Tensor:
        return paste(self.probabilities(features, labels), boxes, size, threshold)
