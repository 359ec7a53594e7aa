"""The bbox head of side-aware boundary localisation (SABL).

Shapes: R rois, C channels, F the side of pooled features, U = F * reg_feat_up_ratio buckets of an axis.
"""

from __future__ import annotations

from typing import Annotated, Self

import torch
from annotated_types import Ge
from attrs import evolve, frozen
from torch import Tensor, nn
from torch.nn import functional as F

from detcfg.boxes.coders.bucketing import BucketingBBoxCoderConfig
from detcfg.boxes.samplers.base import SamplingResult
from detcfg.config import ConfigError, is_unset
from detcfg.config.ranges import NumLayers, PositiveInt
from detcfg.heads.bbox.bbox_head import BBoxHead, BBoxHeadConfig, BBoxTargets
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.init import kaiming_init, normal_init, xavier_init
from detcfg.layers.norm import NormConfig
from detcfg.losses.base import LossConfig, Reduction
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.losses.l1 import L1LossConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig
from detcfg.precision import in_full_precision


@frozen(kw_only=True)
class SABLHeadConfig(BBoxHeadConfig):
    """SABL (Wang et al., 2019, https://arxiv.org/abs/1912.04260).

    Follows mmdet/models/roi_heads/bbox_heads/sabl_head.py, whose `cls_in_channels` and `reg_in_channels`
    are `in_channels` here. All classes share the buckets, so that `reg_class_agnostic` stays True and
    `reg_decoded_bbox` False, and `loss_bbox_cls` and `loss_bbox_reg` take the place of `loss_bbox`.
    """

    bbox_coder: BucketingBBoxCoderConfig = BucketingBBoxCoderConfig(num_buckets=14, scale_factor=1.7)
    """Encodes each side of a ground-truth box as a bucket and an offset, and decodes both."""
    reg_class_agnostic: bool = True
    """Whether one box is predicted for all classes; True."""
    reg_feat_up_ratio: Annotated[int, Ge(2)] = 2
    """Buckets for each row or column of pooled features."""
    reg_pre_kernel: PositiveInt = 3
    """Side of the kernels of the convolutions before the rows and columns are summed."""
    reg_post_kernel: PositiveInt = 3
    """Length of the kernels of the convolutions along each axis after that."""
    reg_pre_num: NumLayers = 2
    """Convolutions before the rows and columns are summed."""
    reg_post_num: NumLayers = 1
    """Convolutions along each axis."""
    cls_out_channels: PositiveInt = 1024
    """Channels of the hidden linear layers of the classification branch."""
    reg_offset_out_channels: PositiveInt = 256
    """Channels of those of the offset branch."""
    reg_cls_out_channels: PositiveInt = 256
    """Channels of those of the bucket branch."""
    num_cls_fcs: NumLayers = 1
    """Hidden linear layers of the classification branch."""
    num_reg_fcs: NumLayers = 0
    """Hidden linear layers of the offset and the bucket branch."""
    norm_cfg: NormConfig | None = None
    """The norm after each convolution; None: a bias instead."""
    loss_bbox_cls: LossConfig = CrossEntropyLossConfig(use_sigmoid=True)
    """The loss of the bucket scores."""
    loss_bbox_reg: LossConfig = SmoothL1LossConfig(beta=0.1)
    """The loss of the offsets."""

    def wired(self) -> Self:
        if not self.reg_class_agnostic or self.reg_decoded_bbox or self.loss_bbox != L1LossConfig():
            raise ConfigError(
                f"reg_class_agnostic is {self.reg_class_agnostic}, reg_decoded_bbox {self.reg_decoded_bbox} and "
                f"loss_bbox {self.loss_bbox}, but all classes share the buckets, whose losses are loss_bbox_cls "
                "and loss_bbox_reg. Leave the three out."
            )
        wired = super().wired()
        if is_unset(self.roi_feat_size):
            return wired
        if self.roi_feat_size * self.reg_feat_up_ratio != self.bbox_coder.num_buckets:
            raise ConfigError(
                f"bbox_coder.num_buckets is {self.bbox_coder.num_buckets}, but roi_feat_size="
                f"{self.roi_feat_size} times reg_feat_up_ratio={self.reg_feat_up_ratio} is "
                f"{self.roi_feat_size * self.reg_feat_up_ratio}. Make them equal."
            )
        return wired

    def build(self) -> SABLHead:
        return SABLHead(self.resolved())


class SABLHead(BBoxHead):
    """Classifies rois by all of their features; finds their sides by the features summed along each axis."""

    def __init__(self, config: SABLHeadConfig) -> None:
        super().__init__(config)
        self.bucket_coder = config.bbox_coder
        self.loss_bbox_cls = config.loss_bbox_cls.build()
        self.loss_bbox_reg = config.loss_bbox_reg.build()
        channels, ratio, norm = config.in_channels, config.reg_feat_up_ratio, config.norm_cfg
        area, fcs = config.roi_feat_size**2, config.num_reg_fcs
        self.cls_fcs, width = _fcs(config.num_cls_fcs, channels * area, config.cls_out_channels)
        self.fc_cls = config.cls_predictor_cfg.build_for(width, config.cls_channels)
        self.upsample_x = nn.ConvTranspose1d(channels, channels, ratio, stride=ratio)
        self.upsample_y = nn.ConvTranspose1d(channels, channels, ratio, stride=ratio)
        pre, post = config.reg_pre_kernel, config.reg_post_kernel
        self.reg_pre_convs = nn.Sequential(
            *(
                ConvModule(channels, channels, pre, padding=pre // 2, norm_cfg=norm)
                for _ in range(config.reg_pre_num)
            )
        )
        self.reg_post_conv_xs = _along(config.reg_post_num, channels, (1, post), norm)
        self.reg_post_conv_ys = _along(config.reg_post_num, channels, (post, 1), norm)
        self.reg_conv_att_x = nn.Conv2d(channels, 1, 1)
        self.reg_conv_att_y = nn.Conv2d(channels, 1, 1)
        self.reg_cls_fcs, width = _fcs(fcs, channels, config.reg_cls_out_channels)
        self.fc_reg_cls = config.reg_predictor_cfg.build_for(width, 1)
        self.reg_offset_fcs, width = _fcs(fcs, channels, config.reg_offset_out_channels)
        self.fc_reg_offset = config.reg_predictor_cfg.build_for(width, 1)
        self._init_weights()

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        cls_score = in_full_precision(self.fc_cls, self._through(self.cls_fcs, features.flatten(1)))
        along_x, along_y = self._axes(self.reg_pre_convs(features))
        axes = along_x, along_y
        buckets = [in_full_precision(self.fc_reg_cls, self._through(self.reg_cls_fcs, x)) for x in axes]
        offsets = [in_full_precision(self.fc_reg_offset, self._through(self.reg_offset_fcs, x)) for x in axes]
        return cls_score, torch.cat([*map(self._sides, buckets), *map(self._sides, offsets)], dim=-1)

    def _axes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(R, C, F, F) to the features of the buckets along x and along y, (R, U, C) each."""
        weight_x, weight_y = self.reg_conv_att_x(x).sigmoid(), self.reg_conv_att_y(x).sigmoid()
        along_x = (x * weight_x / weight_x.sum(dim=2, keepdim=True)).sum(dim=2, keepdim=True)
        along_y = (x * weight_y / weight_y.sum(dim=3, keepdim=True)).sum(dim=3, keepdim=True)
        along_x = F.relu(self.upsample_x(self.reg_post_conv_xs(along_x).squeeze(2)))
        along_y = F.relu(self.upsample_y(self.reg_post_conv_ys(along_y).squeeze(3)))
        return along_x.transpose(1, 2), along_y.transpose(1, 2)

    def _sides(self, buckets: Tensor) -> Tensor:
        """A number for each bucket of an axis (R, U, 1) to (R, 2 * side_num): each side's, from outside to inside."""
        half = self.bucket_coder.side_num
        values = buckets.squeeze(-1)
        return torch.cat([values[:, :half], values.flip(1)[:, :half]], dim=1)

    def _through(self, fcs: nn.ModuleList, x: Tensor) -> Tensor:
        for fc in fcs:
            x = F.relu(fc(x))
        return x

    def _image_targets(self, sampling: SamplingResult, pos_weight: float) -> BBoxTargets:
        targets = super()._image_targets(sampling, pos_weight)
        weights = targets.bbox_weights.clone()
        weights[: sampling.num_pos] = self.bucket_coder.weights(sampling.pos_priors, sampling.pos_gt_bboxes)
        return evolve(targets, bbox_weights=weights)

    def loss(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        rois: Tensor,
        targets: BBoxTargets,
        reduction_override: Reduction | None = None,
    ) -> dict[str, Tensor]:
        """`loss_cls`, `loss_bbox_cls` of the buckets and `loss_bbox_reg` of the offsets."""
        losses = self.cls_loss(cls_score, targets, reduction_override)
        triples = [
            torch.chunk(values, 2, dim=1)
            for values in (bbox_pred, targets.bbox_targets, targets.bbox_weights)
        ]
        (buckets, offsets), (bucket_targets, offset_targets), (bucket_weights, offset_weights) = triples
        count = len(rois)
        losses["loss_bbox_cls"] = self.loss_bbox_cls(
            buckets, bucket_targets, bucket_weights, 4 * count, reduction_override
        )
        losses["loss_bbox_reg"] = self.loss_bbox_reg(
            offsets, offset_targets, offset_weights, count, reduction_override
        )
        return losses

    def score_factors(self, bbox_pred: Tensor) -> Tensor:
        return self.bucket_coder.confidence(bbox_pred)

    def _init_weights(self) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                xavier_init(layer, distribution="uniform")
        for layer in (self.reg_conv_att_x, self.reg_conv_att_y, self.fc_reg_cls, self.fc_cls):
            normal_init(layer, std=0.01)
        normal_init(self.fc_reg_offset, std=0.001)
        for layer in (self.upsample_x, self.upsample_y):
            kaiming_init(layer)


def _fcs(count: int, width: int, out: int) -> tuple[nn.ModuleList, int]:
    """Linear layers, and the channels after them."""
    layers = nn.ModuleList(nn.Linear(out if i else width, out) for i in range(count))
    return layers, out if count else width


def _along(count: int, channels: int, kernel: tuple[int, int], norm_cfg: NormConfig | None) -> nn.Sequential:
    """Convolutions along one axis."""
    layers: list[nn.Module] = []
    for _ in range(count):
        layer = ConvModule(channels, channels, 1, norm_cfg=norm_cfg)
        padding = (kernel[0] // 2, kernel[1] // 2)
        layer.conv = nn.Conv2d(channels, channels, kernel, padding=padding, bias=norm_cfg is None)
        kaiming_init(layer.conv)
        layers.append(layer)
    return nn.Sequential(*layers)
