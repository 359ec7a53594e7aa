"""The base of the heads that predict from points, and what they share.

Shapes: B images; features are (B, C, H_i, W_i); A points over all levels, one at each place; K classes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal, Self

from attrs import evolve, field, frozen, validators
from torch import Tensor, nn

from detcfg.boxes.anchors.point_generator import MlvlPointGeneratorConfig
from detcfg.boxes.coders.base import BBoxCoderConfig
from detcfg.boxes.coders.distance_point import DistancePointBBoxCoderConfig
from detcfg.config import derived, fill, is_unset
from detcfg.heads.dense.base import DenseHead, DenseHeadConfig
from detcfg.heads.dense.detections import DenseTestConfig, detections_with_places
from detcfg.heads.dense.levels import flatten_level
from detcfg.heads.dense.towers import conv_tower
from detcfg.layers.conv import ConvConfig
from detcfg.layers.deform_conv import DCNv2Config
from detcfg.layers.norm import NormConfig
from detcfg.losses.base import ClassLossConfig, LossConfig
from detcfg.losses.focal import FocalLossConfig
from detcfg.losses.iou import IoULossConfig
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class AnchorFreeHeadConfig(DenseHeadConfig):
    """A config that builds an `AnchorFreeHead` (mmdet/models/dense_heads/anchor_free_head.py)."""

    in_channels: int = derived()
    """Channels of every feature map."""
    feat_channels: int = 256
    """Channels of the hidden layers."""
    stacked_convs: int = field(default=4, validator=validators.ge(0))
    """Layers of each stack."""
    dcn_on_last_conv: bool = False
    """Whether the last layer of each stack is a modulated deformable convolution."""
    conv_bias: bool | Literal["auto"] = "auto"
    """Whether the layers of the stacks have a bias; "auto" for exactly where no norm follows."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig | None = None
    """The norm after each convolution; None: a bias instead."""
    prior_generator: MlvlPointGeneratorConfig = MlvlPointGeneratorConfig()
    """The points of each level; its strides must be those of the feature maps."""
    bbox_coder: BBoxCoderConfig = DistancePointBBoxCoderConfig()
    """How a box is written relative to its prior."""
    loss_cls: ClassLossConfig = FocalLossConfig()
    """The loss of the class scores; also says how scores become probabilities."""
    loss_bbox: LossConfig = IoULossConfig()
    """The loss of the boxes."""
    test_cfg: DenseTestConfig = DenseTestConfig()
    """How predictions become detections."""

    def wired(self) -> Self:
        if is_unset(self.in_strides):
            return self
        generator = fill(self.prior_generator, "in_strides", strides=self.in_strides)
        return evolve(self, prior_generator=generator)

    @property
    def cls_out_channels(self) -> int:
        """Logits of a point: with background exactly if they go through softmax."""
        return self.loss_cls.cls_channels(self.num_classes)

    def tower(self) -> nn.Module:
        """A stack of convolutions from features to what a predictor sees."""
        return conv_tower(
            self.in_channels,
            self.feat_channels,
            self.stacked_convs,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            bias=self.conv_bias,
            last_conv_cfg=DCNv2Config() if self.dcn_on_last_conv else None,
        )

    @property
    def tower_channels(self) -> int:
        """Channels that come out of a `tower`."""
        return self.feat_channels if self.stacked_convs else self.in_channels

    @abstractmethod
    def build(self) -> AnchorFreeHead: ...


class AnchorFreeHead(DenseHead):
    """Two stacks of convolutions before classes and boxes. A subclass says what is predicted from them."""

    def __init__(self, config: AnchorFreeHeadConfig) -> None:
        super().__init__()
        self.num_classes = config.num_classes
        self.cls_out_channels = config.cls_out_channels
        self.use_sigmoid_cls = config.loss_cls.use_sigmoid
        self.strides = config.in_strides
        self.prior_generator = config.prior_generator
        self.bbox_coder = config.bbox_coder
        self.test_cfg = config.test_cfg
        self.loss_cls = config.loss_cls.build()
        self.loss_bbox = config.loss_bbox.build()
        self.cls_convs, self.reg_convs = config.tower(), config.tower()

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        """One level's predictions: logits (B, C, H, W), box codes (B, 4, H, W), perhaps more."""
        raise NotImplementedError

    def forward(self, features: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], ...]:
        """`forward_single` of each level, as a tuple over levels for each kind of prediction."""
        return tuple(zip(*(self.forward_single(x, i) for i, x in enumerate(features)), strict=True))

    def points(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """For each level its points (n_i, 2); the same for every image. `maps` are any predictions."""
        sizes = [(level.shape[-2], level.shape[-1]) for level in maps]
        return self.prior_generator.grid_priors(sizes, maps[0].device)

    def loss(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        return self.losses(self(features), batch, targets)

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        """The losses of what `forward` predicts."""
        raise NotImplementedError

    def probabilities(self, cls_scores: Tensor) -> Tensor:
        """Logits (..., C) to the probabilities of the K classes."""
        return cls_scores.sigmoid() if self.use_sigmoid_cls else cls_scores.softmax(dim=-1)[..., :-1]

    def predict(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        return self.detections(self(features), batch)

    def detections(self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch) -> list[Detections]:
        """The detections in what `forward` predicts. A third prediction is the logit of a score factor."""
        return [found for found, _ in self.detections_with_places(predictions, batch)]

    def detections_with_places(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch
    ) -> list[tuple[Detections, Tensor]]:
        """`detections`, and which of the A points of its image each is from (D,)."""
        cls_scores, bbox_preds, *factors = predictions
        return detections_with_places(
            [flatten_level(maps, self.cls_out_channels) for maps in cls_scores],
            [flatten_level(maps, 4) for maps in bbox_preds],
            self.points(cls_scores),
            batch,
            test_cfg=self.test_cfg,
            probabilities=self.probabilities,
            decode=self.bbox_coder.decode,
            score_factors=[flatten_level(maps, 1).squeeze(-1).sigmoid() for maps in factors[0]]
            if factors
            else None,
        )
