"""The head of generalised focal loss.

Shapes: B images; features are (B, C, H_i, W_i); A anchors over all levels, one at each location; K classes;
P positives of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.atss import ATSSAssignerConfig
from detcfg.boxes.assigners.base import AssignerConfig
from detcfg.boxes.coders.distance_point import DistancePointBBoxCoderConfig
from detcfg.boxes.geometry import centres
from detcfg.boxes.iou import bbox_overlaps
from detcfg.boxes.nms import NMSConfig
from detcfg.config.ranges import PositiveInt
from detcfg.heads.anchor_based.anchor_head import AnchorHead, AnchorHeadConfig
from detcfg.heads.dense.detections import DenseTestConfig
from detcfg.heads.dense.levels import flatten_levels, of_positives, per_level
from detcfg.heads.dense.towers import TowerConfig, init_classifier, init_convs
from detcfg.layers.integral import Integral
from detcfg.layers.norm import GNConfig, NormConfig
from detcfg.layers.scale import Scale
from detcfg.losses.base import LossConfig
from detcfg.losses.distribution_focal import DistributionFocalLossConfig
from detcfg.losses.giou import GIoULossConfig
from detcfg.losses.quality_focal import QualityFocalLossConfig
from detcfg.losses.reduce import shared_factor
from detcfg.structures import ImageBatch, Targets


@frozen(kw_only=True)
class GFLHeadConfig(TowerConfig, AnchorHeadConfig):
    """Scores that say how well a box fits, and box sides as distributions (Li et al., 2020).

    https://arxiv.org/abs/2006.04388. Follows mmdet/models/dense_heads/gfl_head.py.
    """

    norm_cfg: NormConfig | None = GNConfig()
    """The norm after each convolution; None: a bias instead."""
    anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(
        ratios=(1.0,), octave_base_scale=8, scales_per_octave=1
    )
    """The anchors of each level; its strides must be those of the feature maps."""
    bbox_coder: DistancePointBBoxCoderConfig = DistancePointBBoxCoderConfig()
    """Encodes ground-truth boxes as distances from anchors' centres, and decodes predicted distances."""
    reg_decoded_bbox: Literal[True] = True
    """`loss_bbox` compares decoded boxes rather than distances."""
    reg_max: PositiveInt = 16
    """The longest distance from an anchor's centre to a side of its box, in strides."""
    loss_cls: QualityFocalLossConfig = QualityFocalLossConfig()
    """Classification loss. Also decides between sigmoid and softmax."""
    loss_bbox: LossConfig = GIoULossConfig(loss_weight=2.0)
    """Box regression loss."""
    loss_dfl: LossConfig = DistributionFocalLossConfig(loss_weight=0.25)
    """Loss of the distributions of the distances."""
    assigner: AssignerConfig = ATSSAssignerConfig(topk=9)
    """Assigns ground-truth boxes to priors."""
    test_cfg: DenseTestConfig = DenseTestConfig(nms=NMSConfig(iou_threshold=0.6))
    """How predictions become detections."""

    def wired(self) -> Self:
        wired = super().wired()
        wired.anchor_generator.check_single("anchor_generator", type(self).__name__)
        return wired

    def build(self) -> GFLHead:
        return GFLHead(self.resolved())


class GFLHead(AnchorHead):
    """Predicts logits and, for each side of the box, the logits of its distance's distribution."""

    def __init__(self, config: GFLHeadConfig) -> None:
        super().__init__(config)
        self.reg_max = config.reg_max
        self.distances = config.bbox_coder
        self.cls_convs, self.reg_convs = config.tower(), config.tower()
        channels = config.tower_channels
        self.gfl_cls = nn.Conv2d(channels, self.cls_out_channels, 3, padding=1)
        self.gfl_reg = nn.Conv2d(channels, 4 * (config.reg_max + 1), 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in config.in_strides)
        self.integral = Integral(config.reg_max)
        self.loss_dfl = config.loss_dfl.build()
        init_convs(self)
        init_classifier(self.gfl_cls)

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        sides = self.scales[level](self.gfl_reg(self.reg_convs(feature)))
        return self.gfl_cls(self.cls_convs(feature)), sides

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        cls_scores, bbox_preds = predictions
        anchors = self.priors(cls_scores)
        anchor_targets = self.get_targets(anchors, cls_scores, batch, targets)
        scores = self.flat_scores(cls_scores)
        positive = anchor_targets.positive
        strides = of_positives(per_level(self.strides, anchors), positive)[:, None]
        centre = centres(anchor_targets.priors_of(anchors)) / strides
        gt_boxes = anchor_targets.bbox_targets[positive] / strides
        sides = flatten_levels(bbox_preds, 4 * (self.reg_max + 1))[positive]
        boxes = self.distances.decode(centre, self.integral(sides))
        quality = boxes.new_zeros(positive.shape)
        quality[positive] = bbox_overlaps(boxes.detach(), gt_boxes, is_aligned=True)
        weight = scores.detach().sigmoid().amax(dim=-1)[positive]
        total = shared_factor(weight.sum(), weight)

        loss_cls = self.loss_cls(
            scores.flatten(0, 1),
            (anchor_targets.labels.flatten(), quality.flatten()),
            anchor_targets.label_weights.flatten(),
            avg_factor=shared_factor(anchor_targets.avg_factor, weight, least=0.0),
        )
        loss_bbox = self.loss_bbox(boxes, gt_boxes, weight, avg_factor=1.0) / total
        loss_dfl = self.loss_dfl(
            sides.reshape(-1, self.reg_max + 1),
            self.distances.encode(centre, gt_boxes, self.reg_max).flatten(),
            weight[:, None].expand(-1, 4).flatten(),
            avg_factor=4.0,
        )
        return {"loss_cls": loss_cls, "loss_bbox": loss_bbox, "loss_dfl": loss_dfl / total}

    def decode(self, priors: Tensor, pred: Tensor, /, max_shape: tuple[int, int] | None = None) -> Tensor:
        return self.distances.decode(centres(priors), pred, max_shape=max_shape)

    def flat_predictions(
        self, predictions: tuple[tuple[Tensor, ...], ...]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor] | None]:
        cls_scores, sides, factors = super().flat_predictions(predictions)
        pixels = [self.integral(level) * stride for level, stride in zip(sides, self.strides, strict=True)]
        return cls_scores, pixels, factors
