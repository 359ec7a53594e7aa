"""The RoI head of Cascade R-CNN: stages that each refine the boxes of the one before.

Shapes: B images; features are (B, C, H_i, W_i), finest first; R rois over the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Self, TypeVar, cast

import torch
from attrs import evolve, field, frozen, validators
from torch import Tensor, nn

from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
from detcfg.boxes.geometry import scale_boxes
from detcfg.boxes.samplers.base import SamplerConfig, SamplingResult
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.config import ConfigError, is_unset
from detcfg.heads.bbox.bbox_head import BBoxHead, BBoxHeadConfig
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.heads.mask.fcn_mask_head import FCNMaskHead, FCNMaskHeadConfig
from detcfg.heads.roi.base import RoIHead, RoIHeadConfig
from detcfg.heads.roi.common import (
    RoITestConfig,
    assign_proposals,
    choose,
    decode_image,
    rois_of,
    sample_proposals,
    wired_head,
)
from detcfg.losses.smooth_l1 import SmoothL1LossConfig
from detcfg.masks import paste
from detcfg.roi_extractors.base import RoIExtractorConfig, bbox2roi
from detcfg.roi_extractors.single_level import SingleRoIExtractorConfig
from detcfg.structures import Detections, ImageBatch, Targets

T = TypeVar("T")


def _bbox_head(position: float, size: float) -> BBoxHeadConfig:
    """The head of a stage: the finer the boxes are, the smaller are its corrections."""
    return Shared2FCBBoxHeadConfig(
        bbox_coder=DeltaXYWHBBoxCoderConfig(target_stds=(position, position, size, size)),
        reg_class_agnostic=True,
        loss_bbox=SmoothL1LossConfig(beta=1.0),
    )


def _assigner(iou: float) -> MaxIoUAssignerConfig:
    return MaxIoUAssignerConfig(pos_iou_thr=iou, neg_iou_thr=iou, min_pos_iou=iou, match_low_quality=False)


@frozen(kw_only=True)
class CascadeRoIHeadConfig(RoIHeadConfig):
    """Cascade R-CNN (Cai and Vasconcelos, 2018, https://arxiv.org/abs/1712.00726).

    Follows mmdet/models/roi_heads/cascade_roi_head.py. A part that is not a tuple is that of every stage.
    """

    num_stages: int = field(default=3, validator=validators.ge(1))
    """How often boxes are refined."""
    stage_loss_weights: tuple[float, ...] = (1.0, 0.5, 0.25)
    """The losses of each stage are multiplied by it."""
    bbox_roi_extractor: RoIExtractorConfig | tuple[RoIExtractorConfig, ...] = SingleRoIExtractorConfig()
    """How the features of each stage's rois are pooled."""
    bbox_head: BBoxHeadConfig | tuple[BBoxHeadConfig, ...] = (
        _bbox_head(0.1, 0.2),
        _bbox_head(0.05, 0.1),
        _bbox_head(0.033, 0.067),
    )
    """What classifies and refines the rois of each stage."""
    mask_roi_extractor: RoIExtractorConfig | tuple[RoIExtractorConfig, ...] | None = None
    """None: masks are pooled as boxes are."""
    mask_head: FCNMaskHeadConfig | tuple[FCNMaskHeadConfig, ...] | None = None
    """None: no masks."""
    assigner: MaxIoUAssignerConfig | tuple[MaxIoUAssignerConfig, ...] = (
        _assigner(0.5),
        _assigner(0.6),
        _assigner(0.7),
    )
    """What each proposal of a stage is to learn."""
    sampler: SamplerConfig | tuple[SamplerConfig, ...] = RandomSamplerConfig(num=512, pos_fraction=0.25)
    """Which proposals of a stage count."""
    pos_weight: float | tuple[float, ...] = -1.0
    """Weight of positives in classification; at most 0 for 1."""
    test_cfg: RoITestConfig = RoITestConfig()
    """How detections are chosen."""

    def wired(self) -> Self:
        wired = super().wired()
        for name in ("assigner", "sampler", "pos_weight", "stage_loss_weights"):
            wired.stages(name, cast("object", getattr(wired, name)))
        if is_unset(wired.in_strides):
            return wired
        extractors = tuple(
            extractor.fed(wired.in_channels, wired.in_strides)
            for extractor in wired.stages("bbox_roi_extractor", wired.bbox_roi_extractor)
        )
        bbox_heads = wired.stages("bbox_head", wired.bbox_head)
        wired = evolve(
            wired,
            bbox_roi_extractor=extractors,
            bbox_head=tuple(
                wired_head(head, wired.num_classes, f"bbox_roi_extractor.{index}", extractors[index])
                for index, head in enumerate(bbox_heads)
            ),
        )
        return wired if wired.mask_head is None else wired.with_masks(wired.mask_head, extractors)

    def with_masks(
        self,
        mask_head: FCNMaskHeadConfig | tuple[FCNMaskHeadConfig, ...],
        extractors: tuple[RoIExtractorConfig, ...],
    ) -> Self:
        """This config with its mask heads wired."""
        name, own = "bbox_roi_extractor", self.mask_roi_extractor
        if own is not None:
            name = "mask_roi_extractor"
            extractors = tuple(
                extractor.fed(self.in_channels, self.in_strides) for extractor in self.stages(name, own)
            )
        heads = tuple(
            wired_head(head, self.num_classes, f"{name}.{index}", extractors[index])
            for index, head in enumerate(self.stages("mask_head", mask_head))
        )
        return evolve(self, mask_head=heads, mask_roi_extractor=None if own is None else extractors)

    def stages(self, name: str, value: T | tuple[T, ...]) -> tuple[T, ...]:
        """A field's value for each stage."""
        if not isinstance(value, tuple):
            return (value,) * self.num_stages
        values = cast("tuple[T, ...]", value)
        if len(values) != self.num_stages:
            raise ConfigError(
                f"{name} has {len(values)} values, but num_stages is {self.num_stages}. "
                "Give one for each stage, or one for all."
            )
        return values

    def build(self) -> CascadeRoIHead:
        return CascadeRoIHead(self.resolved())


class CascadeRoIHead(RoIHead):
    """A subclass may change how rois become predictions: `pool`, `pool_masks` and `probabilities`."""

    def __init__(self, config: CascadeRoIHeadConfig) -> None:
        super().__init__()
        self.num_stages = config.num_stages
        self.stage_loss_weights = config.stage_loss_weights
        self.bbox_roi_extractor = nn.ModuleList(
            extractor.build() for extractor in config.stages("bbox_roi_extractor", config.bbox_roi_extractor)
        )
        self.bbox_head = nn.ModuleList(head.build() for head in config.stages("bbox_head", config.bbox_head))
        self.mask_roi_extractor = self.mask_head = None
        if config.mask_head is not None:
            self.mask_head = nn.ModuleList(
                head.build() for head in config.stages("mask_head", config.mask_head)
            )
            if config.mask_roi_extractor is not None:
                extractors = config.stages("mask_roi_extractor", config.mask_roi_extractor)
                self.mask_roi_extractor = nn.ModuleList(extractor.build() for extractor in extractors)
        self.assigners = config.stages("assigner", config.assigner)
        self.samplers = config.stages("sampler", config.sampler)
        self.pos_weights = config.stages("pos_weight", config.pos_weight)
        self.test_cfg = config.test_cfg

    def bbox_head_of(self, stage: int) -> BBoxHead:
        return cast("BBoxHead", self.bbox_head[stage])

    def mask_head_of(self, stage: int) -> FCNMaskHead:
        assert self.mask_head is not None
        return cast("FCNMaskHead", self.mask_head[stage])

    def loss(
        self,
        features: tuple[Tensor, ...],
        proposals: Sequence[Detections],
        batch: ImageBatch,
        targets: Sequence[Targets],
    ) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        for stage in range(self.num_stages):
            samplings = self.sample(stage, features, proposals, targets)
            own, refined = self.bbox_loss(stage, features, samplings, batch)
            if self.mask_head is not None:
                for_masks = self.mask_samplings(stage, features, samplings, refined, targets)
                own |= self.mask_loss(stage, features, for_masks, batch)
            losses |= self.of_stage(stage, own)
            proposals = refined
        return losses

    def of_stage(self, stage: int, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses of a stage under its name, with its weight."""
        weight = self.stage_loss_weights[stage]
        return {
            f"s{stage}.{name}": value * weight if "loss" in name else value for name, value in losses.items()
        }

    def sample(
        self,
        stage: int,
        features: tuple[Tensor, ...],
        proposals: Sequence[Detections],
        targets: Sequence[Targets],
    ) -> list[SamplingResult]:
        """The proposals of each image that count in a stage, and what they learn."""
        hardness = partial(self._hardness, stage, features)
        assignments = assign_proposals(self.assigners[stage], proposals, targets)
        return sample_proposals(assignments, self.samplers[stage], proposals, targets, hardness)

    def bbox_loss(
        self,
        stage: int,
        features: tuple[Tensor, ...],
        samplings: Sequence[SamplingResult],
        batch: ImageBatch,
    ) -> tuple[dict[str, Tensor], list[Detections]]:
        """The losses of a stage's bbox head, and the boxes it makes of the sampled proposals."""
        head = self.bbox_head_of(stage)
        rois = bbox2roi([sampling.priors for sampling in samplings])
        cls_score, bbox_pred = head(self.pool(stage, features, rois))
        targets = head.targets(samplings, self.pos_weights[stage])
        losses = head.loss(cls_score, bbox_pred, rois, targets)
        with torch.no_grad():
            # A positive is refined as the object that it learns, a negative as what it looks like.
            found = head.predicted_labels(cls_score)
            labels = found.where(targets.labels == head.num_classes, targets.labels)
            counts = [len(sampling.priors) for sampling in samplings]
            refined = self.refine(stage, rois, bbox_pred, labels=labels, counts=counts, batch=batch)
        # Objects that the sampler added are no proposals of the next stage.
        proposals = [
            _boxes(boxes[_not_added(sampling)]) for boxes, sampling in zip(refined, samplings, strict=True)
        ]
        return losses, proposals

    def mask_samplings(
        self,
        stage: int,
        features: tuple[Tensor, ...],
        samplings: Sequence[SamplingResult],
        refined: Sequence[Detections],
        targets: Sequence[Targets],
    ) -> Sequence[SamplingResult]:
        """What a stage's mask head learns from: here what its bbox head learnt from."""
        del self, stage, features, refined, targets
        return samplings

    def refine(
        self,
        stage: int,
        rois: Tensor,
        bbox_pred: Tensor,
        *,
        labels: Tensor,
        counts: list[int],
        batch: ImageBatch,
    ) -> list[Tensor]:
        """The boxes (n, 4) of each image that a stage makes of its rois, whose classes are labels (R,)."""
        parts = zip(*(torch.split(values, counts) for values in (rois, labels, bbox_pred)), strict=True)
        head = self.bbox_head_of(stage)
        return [
            head.refined(own, classes, pred.float(), batch.sizes[index])
            for index, (own, classes, pred) in enumerate(parts)
        ]

    def mask_loss(
        self,
        stage: int,
        features: tuple[Tensor, ...],
        samplings: Sequence[SamplingResult],
        batch: ImageBatch,
    ) -> dict[str, Tensor]:
        """The losses of a stage's mask head, which learns from the positives only."""
        pooled = self.pool_masks(stage, features, bbox2roi([s.pos_priors for s in samplings]))
        height, width = batch.tensor.shape[-2:]
        return self.mask_head_of(stage).loss(pooled, samplings, (height, width))

    def pool(self, stage: int, features: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        """The features of each roi, for its class and its box."""
        pooled: Tensor = self.bbox_roi_extractor[stage](features, rois)
        return pooled

    def pool_masks(self, stage: int, features: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        """The features of each roi for its mask."""
        pooled: Tensor = (self.mask_roi_extractor or self.bbox_roi_extractor)[stage](features, rois)
        return pooled

    def predict(
        self, features: tuple[Tensor, ...], proposals: Sequence[Detections], batch: ImageBatch
    ) -> list[Detections]:
        found = self.predict_boxes(features, proposals, batch, rescale=self.mask_head is None)
        return found if self.mask_head is None else self.predict_masks(features, found, batch)

    def predict_boxes(
        self,
        features: tuple[Tensor, ...],
        proposals: Sequence[Detections],
        batch: ImageBatch,
        *,
        rescale: bool,
    ) -> list[Detections]:
        """The detections of each image, in output or in network pixels.

        Boxes are the last stage's; scores are those of all stages, averaged before the softmax.
        """
        boxes = [image.boxes for image in proposals]
        counts = [len(image) for image in boxes]
        rois, scores, bbox_pred = bbox2roi(boxes), list[Tensor](), torch.empty(0)
        for stage in range(self.num_stages):
            if stage > 0:
                labels = self.bbox_head_of(stage - 1).predicted_labels(scores[-1])
                boxes = self.refine(stage - 1, rois, bbox_pred, labels=labels, counts=counts, batch=batch)
                rois = bbox2roi(boxes)
            score, bbox_pred = self.bbox_head_of(stage)(self.pool(stage, features, rois))
            scores.append(score)
        head = self.bbox_head_of(-1)
        probabilities = head.probabilities(torch.stack(scores).mean(dim=0).float())
        parts = zip(*(torch.split(v, counts) for v in (rois, probabilities, bbox_pred)), strict=True)
        return [
            choose(
                self.test_cfg,
                decode_image(head, own, pred, batch, index, rescale=rescale),
                score,
                head.score_factors(pred.float()),
            )
            for index, (own, score, pred) in enumerate(parts)
        ]

    def predict_masks(
        self, features: tuple[Tensor, ...], found: Sequence[Detections], batch: ImageBatch
    ) -> list[Detections]:
        """The detections, which come in network pixels, with their masks and in output pixels."""
        rois = bbox2roi([image.boxes for image in found])
        probabilities = self.mask_probabilities(features, rois, torch.cat([image.labels for image in found]))
        detections: list[Detections] = []
        for index, own in enumerate(torch.split(probabilities, [len(image) for image in found])):
            boxes = scale_boxes(found[index].boxes, batch.scales(index))
            masks = paste(own, boxes, batch.output_sizes[index], self.test_cfg.mask_thr_binary)
            detections.append(evolve(found[index], boxes=boxes, masks=masks))
        return detections

    def mask_probabilities(self, features: tuple[Tensor, ...], rois: Tensor, labels: Tensor) -> Tensor:
        """(R, M, M): the masks of rois whose classes are known, averaged over the stages."""
        stages = [
            self.mask_head_of(stage).probabilities(self.pool_masks(stage, features, rois), labels)
            for stage in range(self.num_stages)
        ]
        return torch.stack(stages).mean(dim=0)

    @torch.no_grad()
    def _hardness(
        self,
        stage: int,
        features: tuple[Tensor, ...],
        index: int,
        priors: Tensor,
        labels: Tensor | None,
    ) -> Tensor:
        """(n,): the classification loss of priors (n, 4) of one image."""
        head = self.bbox_head_of(stage)
        cls_score, _ = head(self.pool(stage, features, rois_of(index, priors)))
        return head.hardness(cls_score, labels)


def _not_added(sampling: SamplingResult) -> Tensor:
    """(P + Q,) bool: positives come first."""
    return torch.cat([~sampling.pos_is_gt, torch.ones_like(sampling.neg_inds, dtype=torch.bool)])


def _boxes(boxes: Tensor) -> Detections:
    """Proposals that have neither scores nor classes."""
    zeros = boxes.new_zeros(len(boxes))
    return Detections(boxes=boxes, scores=zeros, labels=zeros.long())
