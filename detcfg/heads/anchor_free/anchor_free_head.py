"""The base of the heads that predict from points, and what they share.

Shapes: B images; features are (B, C, H_i, W_i); A points over all levels, one at each location; K classes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal, Self

from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.boxes.anchors.point_generator import MlvlPointGeneratorConfig
from detcfg.boxes.coders.base import BBoxCoderConfig
from detcfg.boxes.coders.distance_point import DistancePointBBoxCoderConfig
from detcfg.config import fill, is_unset
from detcfg.heads.dense.base import LevelHead, LevelHeadConfig
from detcfg.heads.dense.levels import sizes_of
from detcfg.heads.dense.towers import TowerConfig, conv_tower
from detcfg.layers.conv import ConvConfig
from detcfg.layers.deform_conv import DCNv2Config
from detcfg.losses.base import LossConfig
from detcfg.losses.iou import IoULossConfig


@frozen(kw_only=True)
class AnchorFreeHeadConfig(TowerConfig, LevelHeadConfig):
    """A config that builds an `AnchorFreeHead` (mmdet/models/dense_heads/anchor_free_head.py)."""

    dcn_on_last_conv: bool = False
    """Whether the last layer of each tower is a modulated deformable convolution."""
    conv_bias: bool | Literal["auto"] = "auto"
    """Whether the layers of the towers have a bias; "auto" for exactly where no norm follows."""
    prior_generator: MlvlPointGeneratorConfig = MlvlPointGeneratorConfig()
    """The points of each level; its strides must be those of the feature maps."""
    bbox_coder: BBoxCoderConfig = DistancePointBBoxCoderConfig()
    """Encodes ground-truth boxes as distances from their points, and decodes predicted distances."""
    loss_bbox: LossConfig = IoULossConfig()
    """Box regression loss."""

    def wired(self) -> Self:
        if is_unset(self.in_strides):
            return self
        generator = fill(self.prior_generator, "in_strides", strides=self.in_strides)
        return evolve(self, prior_generator=generator)

    def layer_kinds(self) -> list[ConvConfig | None]:
        kinds = super().layer_kinds()
        return [*kinds[:-1], DCNv2Config()] if kinds and self.dcn_on_last_conv else kinds

    def tower(self) -> nn.Module:
        return conv_tower(
            self.in_channels,
            self.feat_channels,
            self.layer_kinds(),
            norm_cfg=self.norm_cfg,
            bias=self.conv_bias,
        )

    @abstractmethod
    def build(self) -> AnchorFreeHead: ...


class AnchorFreeHead(LevelHead):
    """Two towers, for classes and for boxes. A subclass says what is predicted from them."""

    def __init__(self, config: AnchorFreeHeadConfig) -> None:
        super().__init__(config)
        self.prior_generator = config.prior_generator
        self.bbox_coder = config.bbox_coder
        self.loss_bbox = config.loss_bbox.build()
        self.cls_convs, self.reg_convs = config.tower(), config.tower()

    def priors(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """For each level its points (n_i, 2), the same for every image; `maps` are any predictions."""
        return self.prior_generator.grid_priors(sizes_of(maps), maps[0].device)

    def decode(self, priors: Tensor, pred: Tensor, /, max_shape: tuple[int, int] | None = None) -> Tensor:
        return self.bbox_coder.decode(priors, pred, max_shape=max_shape)
