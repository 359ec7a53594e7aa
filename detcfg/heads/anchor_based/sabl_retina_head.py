"""RetinaNet's head with side-aware boundary localisation.

Shapes: B images; features are (B, C, H_i, W_i); one square at each place, A over all levels; K classes, S
buckets of a side, P positives of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from attrs import evolve, field, frozen, validators
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.approx_max_iou import ApproxMaxIoUAssignerConfig
from detcfg.boxes.coders.bucketing import BucketingBBoxCoderConfig
from detcfg.config import ConfigError
from detcfg.heads.anchor_based.approx_anchor_head import ApproxAnchorHead, ApproxAnchorHeadConfig, by_approxes
from detcfg.heads.dense.anchor_targets import level_losses
from detcfg.heads.dense.detections import dense_detections
from detcfg.heads.dense.levels import flatten_level, sizes_of
from detcfg.heads.dense.towers import init_classifier, init_convs, tower_of
from detcfg.layers.conv import ConvConfig
from detcfg.layers.norm import NormConfig
from detcfg.losses.base import ClassLossConfig, LossConfig
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.losses.focal import FocalLossConfig
from detcfg.losses.l1 import L1LossConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class SABLRetinaHeadConfig(ApproxAnchorHeadConfig):
    """SABL on RetinaNet (Wang et al., 2019, https://arxiv.org/abs/1912.04260).

    Follows mmdet/models/dense_heads/sabl_retina_head.py. `loss_bbox` has no part in it.
    """

    stacked_convs: int = field(default=4, validator=validators.ge(0))
    """Layers of the stack for classes, and of that for boxes."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig | None = None
    """The norm after each convolution; None: a bias instead."""
    approx_anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(
        octave_base_scale=4, scales_per_octave=3, ratios=(0.5, 1.0, 2.0)
    )
    """The shapes by which a square's overlap with an object is judged."""
    square_anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(ratios=(1.0,), scales=(4.0,))
    """The square at each place."""
    bbox_coder: BucketingBBoxCoderConfig = BucketingBBoxCoderConfig(num_buckets=14, scale_factor=3.0)
    """How a box is written relative to its square."""
    assigner: ApproxMaxIoUAssignerConfig = ApproxMaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.4)
    """Which squares learn which object."""
    loss_cls: ClassLossConfig = FocalLossConfig()
    """The loss of the class scores; also says how scores become probabilities."""
    loss_bbox: LossConfig = L1LossConfig()
    """Not used."""
    loss_bbox_cls: LossConfig = CrossEntropyLossConfig(use_sigmoid=True, loss_weight=1.5)
    """Of the buckets."""
    loss_bbox_reg: LossConfig = SmoothL1LossConfig(beta=1.0 / 9.0, loss_weight=1.5)
    """Of the offsets."""

    def wired(self) -> Self:
        if self.reg_decoded_bbox or self.loss_bbox != L1LossConfig():
            raise ConfigError(
                f"reg_decoded_bbox is {self.reg_decoded_bbox} and loss_bbox {self.loss_bbox}, but buckets and "
                "offsets are learnt by loss_bbox_cls and loss_bbox_reg. Leave the two out."
            )
        return super().wired()

    def build(self) -> SABLRetinaHead:
        return SABLRetinaHead(self.resolved())


class SABLRetinaHead(ApproxAnchorHead):
    """Of each side of a box: in which bucket it lies, and where in it."""

    def __init__(self, config: SABLRetinaHeadConfig) -> None:
        super().__init__(config)
        self.bucket_coder, self.approx_assigner = config.bbox_coder, config.assigner
        self.loss_bbox_cls = config.loss_bbox_cls.build()
        self.loss_bbox_reg = config.loss_bbox_reg.build()
        # Few squares learn a box, and only those are encoded.
        self.target_maker = evolve(self.target_maker, reg_decoded_bbox=True)
        self.cls_convs, self.reg_convs = tower_of(config), tower_of(config)
        channels = config.feat_channels if config.stacked_convs else config.in_channels
        sides = 4 * self.bucket_coder.side_num
        self.retina_cls = nn.Conv2d(channels, self.cls_out_channels, 3, padding=1)
        self.retina_bbox_reg = nn.Conv2d(channels, sides, 3, padding=1)
        self.retina_bbox_cls = nn.Conv2d(channels, sides, 3, padding=1)
        init_convs(self)
        init_classifier(self.retina_cls)

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        """Logits (B, C, H, W), and logits and offsets of the buckets (B, 8 * S, H, W)."""
        del level
        hidden = self.reg_convs(feature)
        sides = torch.cat([self.retina_bbox_cls(hidden), self.retina_bbox_reg(hidden)], dim=1)
        return self.retina_cls(self.cls_convs(feature)), sides

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        cls_scores, bbox_preds = predictions
        approxes, squares = self.approxes(cls_scores), self.anchors(cls_scores)
        learnt = self.target_maker(
            squares,
            sizes_of(cls_scores),
            batch,
            targets,
            assign=by_approxes(self.approx_assigner, approxes),
            inside=self.inside(approxes, cls_scores, batch),
        )
        scores = self.flat_scores(cls_scores)
        loss_cls = level_losses(self.loss_cls, learnt, scores, learnt.labels, learnt.label_weights)
        positive = learnt.labels < self.num_classes
        own = torch.cat(list(squares)).expand(len(positive), -1, -1)[positive]
        boxes = learnt.bbox_targets[positive]
        loss_bbox_cls, loss_bbox_reg = self.side_losses(
            self.flat_codes(bbox_preds)[positive], own, boxes, learnt.avg_factor
        )
        return {"loss_cls": loss_cls, "loss_bbox_cls": loss_bbox_cls, "loss_bbox_reg": loss_bbox_reg}

    def side_losses(
        self, pred: Tensor, squares: Tensor, boxes: Tensor, avg_factor: float
    ) -> tuple[Tensor, Tensor]:
        """The losses of the buckets and of the offsets (P, 8 * S) from squares (P, 4) to boxes (P, 4)."""
        coder = self.bucket_coder
        buckets, offsets = torch.chunk(pred, 2, dim=1)
        wanted_buckets, wanted_offsets = torch.chunk(coder.encode(squares, boxes), 2, dim=1)
        bucket_weights, offset_weights = torch.chunk(coder.weights(squares, boxes), 2, dim=1)
        return (
            self.loss_bbox_cls(buckets, wanted_buckets, bucket_weights, avg_factor * 4 * coder.side_num),
            self.loss_bbox_reg(offsets, wanted_offsets, offset_weights, avg_factor * 4 * coder.offset_topk),
        )

    def detections(self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch) -> list[Detections]:
        cls_scores, bbox_preds = predictions
        sides = [flatten_level(maps, self.bucket_coder.encode_size) for maps in bbox_preds]
        return dense_detections(
            [flatten_level(maps, self.cls_out_channels) for maps in cls_scores],
            sides,
            self.anchors(cls_scores),
            batch,
            test_cfg=self.test_cfg,
            probabilities=self.probabilities,
            decode=self.bucket_coder.decode,
            score_factors=[
                self.bucket_coder.confidence(level.flatten(0, 1)).view(level.shape[:2]) for level in sides
            ],
        )
