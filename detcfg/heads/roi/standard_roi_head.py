"""The RoI head of Faster and Mask R-CNN.

Shapes: B images; features are (B, C, H_i, W_i), finest first; R rois over the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Self

import torch
from attrs import evolve, frozen
from torch import Tensor

from detcfg.boxes.assigners.base import Assignment
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.geometry import scale_boxes
from detcfg.boxes.samplers.base import SamplerConfig, SamplingResult
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.config import is_unset
from detcfg.heads.bbox.bbox_head import BBoxHeadConfig
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.heads.mask.base import MaskHeadConfig
from detcfg.heads.roi.base import RoIHead, RoIHeadConfig
from detcfg.heads.roi.common import (
    RoITestConfig,
    assign_proposals,
    choose,
    decode_image,
    on_pooled,
    rois_of,
    sample_proposals,
    wired_head,
)
from detcfg.heads.roi.shared_head import SharedHeadConfig
from detcfg.roi_extractors.base import RoIExtractor, RoIExtractorConfig, bbox2roi
from detcfg.roi_extractors.single_level import SingleRoIExtractorConfig
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class StandardRoIHeadConfig(RoIHeadConfig):
    """Pool each proposal, classify and refine it, and perhaps draw its mask.

    Follows mmdet/models/roi_heads/standard_roi_head.py.
    """

    bbox_roi_extractor: RoIExtractorConfig = SingleRoIExtractorConfig()
    """Pools features for the bbox head."""
    shared_head: SharedHeadConfig | None = None
    """Layers on the pooled features, before bbox head and mask head."""
    bbox_head: BBoxHeadConfig = Shared2FCBBoxHeadConfig()
    """The head that classifies and refines boxes."""
    mask_roi_extractor: RoIExtractorConfig | None = None
    """None: masks come from the features that are pooled for boxes."""
    mask_head: MaskHeadConfig | None = None
    """None: no masks."""
    assigner: MaxIoUAssignerConfig = MaxIoUAssignerConfig(
        pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, match_low_quality=False
    )
    """Which priors learn which object."""
    sampler: SamplerConfig = RandomSamplerConfig(num=512, pos_fraction=0.25)
    """Which of the assigned priors are learnt from."""
    pos_weight: float = -1.0
    """Weight of positives in classification; at most 0 for 1."""
    test_cfg: RoITestConfig = RoITestConfig()
    """How predictions become detections."""

    def wired(self) -> Self:
        wired = super().wired()
        if is_unset(wired.in_strides):
            return wired
        extractor = wired.bbox_roi_extractor.fed(wired.in_channels, wired.in_strides)
        shared = wired.shared_head
        if shared is not None:
            shared = on_pooled(shared, "bbox_roi_extractor", extractor)
        classes = wired.num_classes
        bbox_head = wired_head(wired.bbox_head, classes, "bbox_roi_extractor", extractor, shared)
        mask_extractor, mask_head = wired.mask_roi_extractor, wired.mask_head
        if mask_extractor is not None:
            mask_extractor = mask_extractor.fed(wired.in_channels, wired.in_strides)
        if mask_head is not None:
            name = "bbox_roi_extractor" if mask_extractor is None else "mask_roi_extractor"
            mask_head = wired_head(mask_head, classes, name, mask_extractor or extractor, shared)
        return evolve(
            wired,
            bbox_roi_extractor=extractor,
            shared_head=shared,
            bbox_head=bbox_head,
            mask_roi_extractor=mask_extractor,
            mask_head=mask_head,
        )

    def build(self) -> StandardRoIHead:
        return StandardRoIHead(self.resolved())


class StandardRoIHead(RoIHead):
    """A subclass may change how rois become predictions: `pool` and `bbox_forward`."""

    def __init__(self, config: StandardRoIHeadConfig) -> None:
        super().__init__()
        self.bbox_roi_extractor = config.bbox_roi_extractor.build()
        self.shared_head = None if config.shared_head is None else config.shared_head.build()
        self.bbox_head = config.bbox_head.build()
        self.mask_roi_extractor = (
            None if config.mask_roi_extractor is None else config.mask_roi_extractor.build()
        )
        self.mask_head = None if config.mask_head is None else config.mask_head.build()
        self.assigner = config.assigner
        self.sampler = config.sampler
        self.pos_weight = config.pos_weight
        self.test_cfg = config.test_cfg

    def loss(
        self,
        features: tuple[Tensor, ...],
        proposals: Sequence[Detections],
        batch: ImageBatch,
        targets: Sequence[Targets],
    ) -> dict[str, Tensor]:
        samplings = self.sample(features, proposals, targets)
        losses, pooled = self.bbox_loss(features, samplings)
        if self.mask_head is not None:
            losses |= self.mask_loss(features, pooled, samplings, batch)
        return losses

    def sample(
        self, features: tuple[Tensor, ...], proposals: Sequence[Detections], targets: Sequence[Targets]
    ) -> list[SamplingResult]:
        """The proposals of each image that count, and what they learn."""
        hardness = partial(self._hardness, features)
        return sample_proposals(self.assign(proposals, targets), self.sampler, proposals, targets, hardness)

    def assign(self, proposals: Sequence[Detections], targets: Sequence[Targets]) -> list[Assignment]:
        """What the proposals of each image are to learn."""
        return assign_proposals(self.assigner, proposals, targets)

    def bbox_loss(
        self, features: tuple[Tensor, ...], samplings: Sequence[SamplingResult]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The losses of the bbox head, and the features pooled for it."""
        rois = bbox2roi([sampling.priors for sampling in samplings])
        cls_score, bbox_pred, pooled = self.bbox_forward(features, rois)
        targets = self.bbox_head.targets(samplings, self.pos_weight)
        return self.bbox_head.loss(cls_score, bbox_pred, rois, targets), pooled

    def bbox_forward(self, features: tuple[Tensor, ...], rois: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (R, C) and box codes of each roi, and its pooled features."""
        pooled = self.pool(features, rois)
        cls_score, bbox_pred = self.bbox_head(pooled)
        return cls_score, bbox_pred, pooled

    def pool(
        self,
        features: tuple[Tensor, ...],
        rois: Tensor,
        roi_scale_factor: float | None = None,
        extractor: RoIExtractor | None = None,
    ) -> Tensor:
        """The features of each roi, through the shared head if there is one; by default for its box."""
        pooled: Tensor = (extractor or self.bbox_roi_extractor)(features, rois, roi_scale_factor)
        return pooled if self.shared_head is None else self.shared_head(pooled)

    def mask_loss(
        self,
        features: tuple[Tensor, ...],
        pooled: Tensor,
        samplings: Sequence[SamplingResult],
        batch: ImageBatch,
    ) -> dict[str, Tensor]:
        """The losses of the mask head, which learns from the positives only."""
        assert self.mask_head is not None
        mask_features = self.pool_positives(features, pooled, samplings)
        height, width = batch.tensor.shape[-2:]
        return self.mask_head.loss(mask_features, samplings, (height, width))

    def pool_positives(
        self, features: tuple[Tensor, ...], pooled: Tensor, samplings: Sequence[SamplingResult]
    ) -> Tensor:
        """The features of each positive for its mask; `pooled` are those of all sampled rois for boxes."""
        if self.mask_roi_extractor is not None:
            return self.pool_masks(features, bbox2roi([s.pos_priors for s in samplings]))
        return pooled[torch.cat([_is_positive(sampling) for sampling in samplings])]

    def pool_masks(self, features: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        """The features of each roi for its mask."""
        return self.pool(features, rois, extractor=self.mask_roi_extractor)

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
        """The detections of each image, in output or in network pixels."""
        rois = bbox2roi([image.boxes for image in proposals])
        cls_score, bbox_pred, _ = self.bbox_forward(features, rois)
        counts = [len(image) for image in proposals]
        parts = zip(*(torch.split(values, counts) for values in (rois, cls_score, bbox_pred)), strict=True)
        detections: list[Detections] = []
        for index, (own, score, pred) in enumerate(parts):
            boxes = decode_image(self.bbox_head, own, pred, batch, index, rescale=rescale)
            scores = self.bbox_head.probabilities(score.float())
            detections.append(self.choose(boxes, scores, self.bbox_head.score_factors(pred.float())))
        return detections

    def choose(self, boxes: Tensor, scores: Tensor, score_factors: Tensor | None) -> Detections:
        """Of one image's rois, boxes (R, 4) or (R, K * 4) and scores (R, K), the detections."""
        return choose(self.test_cfg, boxes, scores, score_factors)

    def predict_masks(
        self, features: tuple[Tensor, ...], found: Sequence[Detections], batch: ImageBatch
    ) -> list[Detections]:
        """The detections, which come in network pixels, with their masks and in output pixels."""
        pooled = self.pool_masks(features, bbox2roi([image.boxes for image in found]))
        detections: list[Detections] = []
        for index, part in enumerate(torch.split(pooled, [len(image) for image in found])):
            boxes = scale_boxes(found[index].boxes, batch.scales(index))
            own = evolve(found[index], boxes=boxes)
            detections.append(self.with_masks(own, part, batch.output_sizes[index]))
        return detections

    def with_masks(self, found: Detections, pooled: Tensor, size: tuple[int, int]) -> Detections:
        """The detections of one image, in output pixels, with their masks; `size` is the output's."""
        assert self.mask_head is not None
        threshold = self.test_cfg.mask_thr_binary
        masks = self.mask_head.predict(pooled, found.boxes, found.labels, size, threshold)
        return evolve(found, masks=masks)

    @torch.no_grad()
    def _hardness(
        self, features: tuple[Tensor, ...], index: int, priors: Tensor, labels: Tensor | None
    ) -> Tensor:
        """(n,): the classification loss of priors (n, 4) of one image."""
        rois = rois_of(index, priors)
        cls_score, _, _ = self.bbox_forward(features, rois)
        return self.bbox_head.hardness(cls_score, labels)


def _is_positive(sampling: SamplingResult) -> Tensor:
    """(P + Q,) bool: positives come first."""
    return torch.arange(len(sampling.priors), device=sampling.pos_inds.device) < sampling.num_pos
