"""The base of the heads that predict from anchors, and what they share.

Shapes: B images; features are (B, C, H_i, W_i); A anchors over all levels, a at each place; K classes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from attrs import evolve, frozen
from torch import Tensor

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.base import AssignerConfig, Assignment
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.coders.base import BBoxCoderConfig
from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
from detcfg.boxes.samplers.base import SamplerConfig
from detcfg.boxes.samplers.pseudo import PseudoSamplerConfig
from detcfg.config import derived, fill, is_unset
from detcfg.heads.dense.anchor_targets import AnchorTargetMaker, AnchorTargets, Candidates, level_losses
from detcfg.heads.dense.base import DenseHead, DenseHeadConfig, check_dense_sampler
from detcfg.heads.dense.detections import DenseTestConfig, dense_detections
from detcfg.heads.dense.levels import flatten_level, sizes_of
from detcfg.losses.base import ClassLossConfig, LossConfig
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class AnchorHeadConfig(DenseHeadConfig):
    """A config that builds an `AnchorHead` (mmdet/models/dense_heads/anchor_head.py)."""

    in_channels: int = derived()
    """Channels of every feature map."""
    feat_channels: int = 256
    """Channels of the hidden layers."""
    anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(scales=(8.0, 16.0, 32.0))
    """The anchors of each level; its strides must be those of the feature maps."""
    bbox_coder: BBoxCoderConfig = DeltaXYWHBBoxCoderConfig()
    """How a box is written relative to its prior."""
    reg_decoded_bbox: bool = False
    """Whether `loss_bbox` works on decoded boxes, as IoU losses need, rather than on their codes."""
    loss_cls: ClassLossConfig = CrossEntropyLossConfig(use_sigmoid=True)
    """The loss of the class scores; also says how scores become probabilities."""
    loss_bbox: LossConfig = SmoothL1LossConfig(beta=1.0 / 9.0)
    """The loss of the boxes."""
    assigner: AssignerConfig = MaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.4)
    """Which priors learn which object."""
    sampler: SamplerConfig = PseudoSamplerConfig()
    """Which of the assigned priors are learnt from."""
    allowed_border: int = -1
    """Anchors that reach further than so many pixels out of the image learn nothing; -1 lets all learn."""
    pos_weight: float = -1.0
    """Weight of positives in classification; at most 0 for 1."""
    test_cfg: DenseTestConfig = DenseTestConfig()
    """How predictions become detections."""

    def wired(self) -> Self:
        check_dense_sampler("sampler", self.sampler)
        if is_unset(self.in_strides):
            return self
        generator = fill(self.anchor_generator, "in_strides", strides=self.in_strides)
        return evolve(self, anchor_generator=generator)

    @property
    def num_base_priors(self) -> int:
        """a: anchors at each place."""
        return self.anchor_generator.num_base_priors[0]

    @property
    def cls_out_channels(self) -> int:
        """Logits of an anchor: with background exactly if they go through softmax."""
        return self.loss_cls.cls_channels(self.num_classes)

    @abstractmethod
    def build(self) -> AnchorHead: ...


class AnchorHead(DenseHead):
    """Scores and refines each anchor. A subclass says how features become the two predictions.

    Its parts may be replaced one by one: `forward`, `assign`, `losses`, `probabilities`.
    """

    def __init__(self, config: AnchorHeadConfig) -> None:
        super().__init__()
        self.num_classes = config.num_classes
        self.in_channels = config.in_channels
        self.feat_channels = config.feat_channels
        self.cls_out_channels = config.cls_out_channels
        self.use_sigmoid_cls = config.loss_cls.use_sigmoid
        self.anchor_generator = config.anchor_generator
        self.num_base_priors = config.num_base_priors
        self.bbox_coder = config.bbox_coder
        self.reg_decoded_bbox = config.reg_decoded_bbox
        self.loss_cls = config.loss_cls.build()
        self.loss_bbox = config.loss_bbox.build()
        self.assigner = config.assigner
        self.test_cfg = config.test_cfg
        self.target_maker = AnchorTargetMaker(
            num_classes=config.num_classes,
            anchor_generator=config.anchor_generator,
            bbox_coder=config.bbox_coder,
            sampler=config.sampler,
            reg_decoded_bbox=config.reg_decoded_bbox,
            allowed_border=config.allowed_border,
            pos_weight=config.pos_weight,
        )

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        """One level's predictions: logits (B, a * C, H, W), box codes (B, a * 4, H, W), perhaps more."""
        raise NotImplementedError

    def forward(self, features: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], ...]:
        """`forward_single` of each level, as a tuple over levels for each kind of prediction."""
        return tuple(zip(*(self.forward_single(x, i) for i, x in enumerate(features)), strict=True))

    def assign(self, candidates: Candidates, targets: Targets) -> Assignment:
        """What each candidate of one image learns."""
        return self.assigner.assign_anchors(candidates.anchors, targets, candidates.num_level_anchors)

    def anchors(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """For each level its anchors (n_i, 4); the same for every image."""
        return self.anchor_generator.grid_priors(sizes_of(maps), maps[0].device)

    def targets(
        self, anchors: Sequence[Tensor], maps: Sequence[Tensor], batch: ImageBatch, targets: Sequence[Targets]
    ) -> AnchorTargets:
        """What each anchor learns; `maps` are any predictions."""
        return self.target_maker(anchors, sizes_of(maps), batch, targets, assign=self.assign)

    def loss(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        return self.losses(self(features), batch, targets)

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        """The losses of what `forward` predicts."""
        cls_scores, bbox_preds = predictions[:2]
        anchors = self.anchors(cls_scores)
        learnt = self.targets(anchors, cls_scores, batch, targets)
        return self.losses_of_targets(cls_scores, bbox_preds, anchors, learnt)

    def losses_of_targets(
        self,
        cls_scores: Sequence[Tensor],
        bbox_preds: Sequence[Tensor],
        anchors: Sequence[Tensor],
        learnt: AnchorTargets,
    ) -> dict[str, Tensor]:
        """The two losses, summed over levels."""
        scores = self.flat_scores(cls_scores)
        loss_cls = level_losses(self.loss_cls, learnt, scores, learnt.labels, learnt.label_weights)
        return {"loss_cls": loss_cls, "loss_bbox": self.box_loss(bbox_preds, anchors, learnt)}

    def box_loss(
        self, bbox_preds: Sequence[Tensor], anchors: Sequence[Tensor], learnt: AnchorTargets
    ) -> Tensor:
        """The loss of the boxes; anchors are (n_i, 4) or (B, n_i, 4) of each level."""
        boxes = self.flat_codes(bbox_preds)
        if self.reg_decoded_bbox:
            flat = torch.cat(list(anchors), dim=-2).expand(len(boxes), -1, -1)
            decoded = self.bbox_coder.decode(flat.flatten(0, 1), boxes.flatten(0, 1))
            boxes = decoded.reshape(*boxes.shape[:2], 4)
        return level_losses(self.loss_bbox, learnt, boxes, learnt.bbox_targets, learnt.bbox_weights)

    def flat_scores(self, cls_scores: Sequence[Tensor]) -> Tensor:
        """Logits of all levels to (B, A, C)."""
        return torch.cat([flatten_level(maps, self.cls_out_channels) for maps in cls_scores], dim=1)

    def flat_codes(self, bbox_preds: Sequence[Tensor]) -> Tensor:
        """Box codes of all levels to (B, A, 4)."""
        size = self.bbox_coder.encode_size
        return torch.cat([flatten_level(maps, size) for maps in bbox_preds], dim=1)

    def probabilities(self, cls_scores: Tensor) -> Tensor:
        """Logits (..., C) to the probabilities of the K classes."""
        return cls_scores.sigmoid() if self.use_sigmoid_cls else cls_scores.softmax(dim=-1)[..., :-1]

    def predict(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        return self.detections(self(features), batch)

    def detections(self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch) -> list[Detections]:
        """The detections in what `forward` predicts. A third prediction is the logit of a score factor."""
        cls_scores, bbox_preds, *factors = predictions
        return dense_detections(
            [flatten_level(maps, self.cls_out_channels) for maps in cls_scores],
            [flatten_level(maps, self.bbox_coder.encode_size) for maps in bbox_preds],
            self.anchors(cls_scores),
            batch,
            test_cfg=self.test_cfg,
            probabilities=self.probabilities,
            decode=self.bbox_coder.decode,
            score_factors=[flatten_level(maps, 1).squeeze(-1).sigmoid() for maps in factors[0]]
            if factors
            else None,
        )
