"""The general bbox head: shared layers, then a classification branch and a regression branch.

                           /-> cls convs -> cls fcs -> fc_cls
    shared convs -> shared fcs
                           \\-> reg convs -> reg fcs -> fc_reg

Shapes: R rois, C channels, S the side of pooled features.
"""

from __future__ import annotations

from typing import Self

from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional as F

from detcfg.boxes.geometry import clip_boxes
from detcfg.config import ConfigError
from detcfg.config.ranges import NumLayers, PositiveInt
from detcfg.heads.bbox.bbox_head import BBoxHead, BBoxHeadConfig, BBoxTargets
from detcfg.layers.conv import ConvConfig
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.init import xavier_init
from detcfg.layers.norm import NormConfig
from detcfg.losses.base import Reduction
from detcfg.precision import in_full_precision


@frozen(kw_only=True)
class ConvFCBBoxHeadConfig(BBoxHeadConfig):
    """A bbox head of any depth (mmdet/models/roi_heads/bbox_heads/convfc_bbox_head.py)."""

    num_shared_convs: NumLayers = 0
    """Convolutions that both branches share."""
    num_shared_fcs: NumLayers = 0
    """Linear layers that both branches share."""
    num_cls_convs: NumLayers = 0
    """Convolutions of the classification branch."""
    num_cls_fcs: NumLayers = 0
    """Linear layers of the classification branch."""
    num_reg_convs: NumLayers = 0
    """Convolutions of the regression branch."""
    num_reg_fcs: NumLayers = 0
    """Linear layers of the regression branch."""
    conv_out_channels: PositiveInt = 256
    """Channels of the convolutions."""
    fc_out_channels: PositiveInt = 1024
    """Channels of the linear layers."""
    with_reg: bool = True
    """Whether there is a regression branch; without it rois stay as they are, for another head to refine."""
    with_avg_pool: bool = False
    """Average pooling over the S x S cells before the first linear layer, rather than flattening them."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig | None = None
    """The norm after each convolution; None: a bias instead."""

    def wired(self) -> Self:
        wired = super().wired()
        if not wired.with_reg and (wired.num_reg_convs or wired.num_reg_fcs):
            raise ConfigError(
                f"with_reg is False, but num_reg_convs is {wired.num_reg_convs} and num_reg_fcs "
                f"{wired.num_reg_fcs}. Leave them out, or with_reg."
            )
        if wired.num_shared_fcs and (wired.num_cls_convs or wired.num_reg_convs):
            raise ConfigError(
                f"num_shared_fcs is {wired.num_shared_fcs}, so the branches begin with vectors, but num_cls_convs is "
                f"{wired.num_cls_convs} and num_reg_convs {wired.num_reg_convs}. Leave the one or the others at 0."
            )
        return wired

    def build(self) -> ConvFCBBoxHead:
        return ConvFCBBoxHead(self.resolved())


class ConvFCBBoxHead(BBoxHead):
    """Pooled features (R, C, S, S) to logits and box deltas."""

    def __init__(self, config: ConvFCBBoxHeadConfig) -> None:
        super().__init__(config)
        self.with_reg = config.with_reg
        self.with_avg_pool = config.with_avg_pool
        area = 1 if config.with_avg_pool else config.roi_feat_size**2
        width = config.in_channels
        self.shared_convs, width = _convs(config, config.num_shared_convs, width)
        self.shared_fcs, width, area = _fcs(config, config.num_shared_fcs, width, area)
        self.cls_convs, cls_width = _convs(config, config.num_cls_convs, width)
        self.cls_fcs, cls_width, cls_area = _fcs(config, config.num_cls_fcs, cls_width, area)
        self.reg_convs, reg_width = _convs(config, config.num_reg_convs, width)
        self.reg_fcs, reg_width, reg_area = _fcs(config, config.num_reg_fcs, reg_width, area)
        self.add_predictors(config, cls_width * cls_area, reg_width * reg_area)
        if not config.with_reg:
            del self.fc_reg

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        shared = self._through(self.shared_convs, self.shared_fcs, features)
        hidden = self._flat(self._through(self.cls_convs, self.cls_fcs, shared))
        cls_score = in_full_precision(self.fc_cls, hidden)
        if not self.with_reg:
            return cls_score, cls_score.new_zeros((len(cls_score), self.bbox_coder.encode_size))
        hidden = self._flat(self._through(self.reg_convs, self.reg_fcs, shared))
        return cls_score, in_full_precision(self.fc_reg, hidden)

    def loss(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        rois: Tensor,
        targets: BBoxTargets,
        reduction_override: Reduction | None = None,
    ) -> dict[str, Tensor]:
        if not self.with_reg:
            return self.cls_loss(cls_score, targets, reduction_override)
        return super().loss(cls_score, bbox_pred, rois, targets, reduction_override)

    def boxes_of_labels(self, bbox_pred: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
        if not self.with_reg:
            return bbox_pred[rows]
        return super().boxes_of_labels(bbox_pred, labels, rows)

    def decode(self, rois: Tensor, bbox_pred: Tensor, size: tuple[int, int]) -> Tensor:
        if not self.with_reg:
            return clip_boxes(rois[:, 1:], size)
        return super().decode(rois, bbox_pred, size)

    def _through(self, convs: nn.ModuleList, fcs: nn.ModuleList, x: Tensor) -> Tensor:
        for conv in convs:
            x = conv(x)
        for fc in fcs:
            x = F.relu(fc(self._flat(x)))
        return x

    def _flat(self, x: Tensor) -> Tensor:
        """(R, C, S, S) to (R, C) or (R, C * S * S); (R, D) stays as it is."""
        if x.dim() == 2:
            return x
        return x.mean(dim=(2, 3)) if self.with_avg_pool else x.flatten(1)


def _convs(config: ConvFCBBoxHeadConfig, count: int, width: int) -> tuple[nn.ModuleList, int]:
    """3x3 convolutions, and the channels after them."""
    layers = nn.ModuleList()
    for _ in range(count):
        layers.append(
            ConvModule(
                width,
                config.conv_out_channels,
                3,
                padding=1,
                conv_cfg=config.conv_cfg,
                norm_cfg=config.norm_cfg,
            )
        )
        width = config.conv_out_channels
    return layers, width


def _fcs(config: ConvFCBBoxHeadConfig, count: int, width: int, area: int) -> tuple[nn.ModuleList, int, int]:
    """Linear layers, and the channels and cells after them."""
    layers = nn.ModuleList()
    for _ in range(count):
        layer = nn.Linear(width * area, config.fc_out_channels)
        xavier_init(layer, distribution="uniform")
        layers.append(layer)
        width, area = config.fc_out_channels, 1
    return layers, width, area


@frozen(kw_only=True)
class Shared2FCBBoxHeadConfig(ConvFCBBoxHeadConfig):
    """Two shared linear layers (Lin et al., 2016, https://arxiv.org/abs/1612.03144)."""

    num_shared_fcs: NumLayers = 2
    """Linear layers that both branches share."""


@frozen(kw_only=True)
class Shared4Conv1FCBBoxHeadConfig(ConvFCBBoxHeadConfig):
    """Four shared convolutions and one linear layer (Wu and He, 2018, https://arxiv.org/abs/1803.08494)."""

    num_shared_convs: NumLayers = 4
    """Convolutions that both branches share."""
    num_shared_fcs: NumLayers = 1
    """Linear layers that both branches share."""
