"""The head of generalised focal loss.

Shapes: B images; features are (B, C, H_i, W_i); A anchors over all levels, one at each place; K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import torch
from attrs import field, frozen, validators
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.atss import ATSSAssignerConfig
from detcfg.boxes.assigners.base import AssignerConfig
from detcfg.boxes.coders.distance_point import DistancePointBBoxCoderConfig
from detcfg.boxes.geometry import centres
from detcfg.boxes.iou import bbox_overlaps
from detcfg.boxes.nms import NMSConfig
from detcfg.config import ConfigError, is_unset
from detcfg.heads.anchor_based.anchor_head import AnchorHead, AnchorHeadConfig
from detcfg.heads.dense.detections import DenseTestConfig, dense_detections
from detcfg.heads.dense.levels import flatten_level, flatten_levels, per_level
from detcfg.heads.dense.towers import init_classifier, init_convs, tower_of
from detcfg.layers.conv import ConvConfig
from detcfg.layers.integral import Integral
from detcfg.layers.norm import GNConfig, NormConfig
from detcfg.layers.scale import Scale
from detcfg.losses.base import LossConfig
from detcfg.losses.distribution_focal import DistributionFocalLossConfig
from detcfg.losses.giou import GIoULossConfig
from detcfg.losses.quality_focal import QualityFocalLossConfig
from detcfg.losses.reduce import shared_factor
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class GFLHeadConfig(AnchorHeadConfig):
    """Scores that say how well a box fits, and box sides as distributions (Li et al., 2020).

    https://arxiv.org/abs/2006.04388. Follows mmdet/models/dense_heads/gfl_head.py.
    """

    stacked_convs: int = field(default=4, validator=validators.ge(0))
    """Layers of each stack."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig | None = GNConfig()
    """The norm after each convolution; None: a bias instead."""
    anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(
        ratios=(1.0,), octave_base_scale=8, scales_per_octave=1
    )
    """The anchors of each level; its strides must be those of the feature maps."""
    bbox_coder: DistancePointBBoxCoderConfig = DistancePointBBoxCoderConfig()
    """How a box is written relative to its prior."""
    reg_decoded_bbox: Literal[True] = True
    """Whether the loss compares boxes rather than their codes."""
    reg_max: int = field(default=16, validator=validators.ge(1))
    """The longest distance from an anchor's centre to a side of its box, in strides."""
    loss_cls: QualityFocalLossConfig = QualityFocalLossConfig()
    """The loss of the class scores; also says how scores become probabilities."""
    loss_bbox: LossConfig = GIoULossConfig(loss_weight=2.0)
    """The loss of the boxes."""
    loss_dfl: LossConfig = DistributionFocalLossConfig(loss_weight=0.25)
    """The loss of the distributions of the sides."""
    assigner: AssignerConfig = ATSSAssignerConfig(topk=9)
    """Which priors learn which object."""
    test_cfg: DenseTestConfig = DenseTestConfig(nms=NMSConfig(iou_threshold=0.6))
    """How predictions become detections."""

    def wired(self) -> Self:
        wired = super().wired()
        if not is_unset(self.in_strides) and wired.num_base_priors != 1:
            raise ConfigError(
                f"anchor_generator makes {wired.num_base_priors} anchors at each place; GFLHead needs one. "
                "Give it one ratio and one scale."
            )
        return wired

    def build(self) -> GFLHead:
        return GFLHead(self.resolved())


class GFLHead(AnchorHead):
    """Predicts logits and, for each side of the box, the logits of its distance's distribution."""

    def __init__(self, config: GFLHeadConfig) -> None:
        super().__init__(config)
        self.strides = config.in_strides
        self.reg_max = config.reg_max
        self.distances = config.bbox_coder
        self.cls_convs, self.reg_convs = tower_of(config), tower_of(config)
        channels = config.feat_channels if config.stacked_convs else config.in_channels
        self.gfl_cls = nn.Conv2d(channels, self.cls_out_channels, 3, padding=1)
        self.gfl_reg = nn.Conv2d(channels, 4 * (config.reg_max + 1), 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in config.in_strides)
        self.integral = Integral(config.reg_max)
        self.loss_dfl = config.loss_dfl.build()
        init_convs(self)
        init_classifier(self.gfl_cls)

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        sides = self.scales[level](self.gfl_reg(self.reg_convs(feature))).float()
        return self.gfl_cls(self.cls_convs(feature)), sides

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        cls_scores, bbox_preds = predictions
        anchors = self.anchors(cls_scores)
        learnt = self.targets(anchors, cls_scores, batch, targets)
        scores = self.flat_scores(cls_scores)
        positive = learnt.labels < self.num_classes
        strides = per_level(self.strides, anchors).expand_as(positive)[positive][:, None]
        centre = centres(torch.cat(list(anchors))).expand(*positive.shape, 2)[positive] / strides
        wanted = learnt.bbox_targets[positive] / strides
        sides = flatten_levels(bbox_preds, 4 * (self.reg_max + 1))[positive]
        boxes = self.distances.decode(centre, self.integral(sides))
        quality = torch.zeros_like(learnt.label_weights)
        quality[positive] = bbox_overlaps(boxes.detach(), wanted, is_aligned=True)
        weight = scores.detach().sigmoid().amax(dim=-1)[positive]
        total = shared_factor(weight.sum(), weight)

        loss_cls = self.loss_cls(
            scores.flatten(0, 1),
            (learnt.labels.flatten(), quality.flatten()),
            learnt.label_weights.flatten(),
            avg_factor=shared_factor(learnt.avg_factor, weight, least=0.0),
        )
        loss_bbox = self.loss_bbox(boxes, wanted, weight, avg_factor=1.0) / total
        loss_dfl = self.loss_dfl(
            sides.reshape(-1, self.reg_max + 1),
            self.distances.encode(centre, wanted, self.reg_max).flatten(),
            weight[:, None].expand(-1, 4).flatten(),
            avg_factor=4.0,
        )
        return {"loss_cls": loss_cls, "loss_bbox": loss_bbox, "loss_dfl": loss_dfl / total}

    def detections(self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch) -> list[Detections]:
        cls_scores, bbox_preds = predictions
        return dense_detections(
            [flatten_level(maps, self.cls_out_channels) for maps in cls_scores],
            [
                self.integral(flatten_level(maps, 4 * (self.reg_max + 1))) * stride
                for maps, stride in zip(bbox_preds, self.strides, strict=True)
            ],
            [centres(level) for level in self.anchors(cls_scores)],
            batch,
            test_cfg=self.test_cfg,
            probabilities=self.probabilities,
            decode=self.distances.decode,
        )
