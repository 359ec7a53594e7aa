"""The RoI head of Faster and Mask R-CNN.

Shapes: B images; features are (B, C, H_i, W_i), finest first; R rois and P positives over the whole batch;
S the side of pooled features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from attrs import evolve, frozen
from torch import Tensor

from detcfg.boxes.assigners.base import AssignerConfig
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.geometry import scale_boxes
from detcfg.boxes.samplers.base import SamplerConfig, SamplingResult
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.config import ConfigError, fill, is_unset
from detcfg.config.ranges import WeightOrOff
from detcfg.heads.bbox.bbox_head import BBoxHeadConfig
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.heads.mask.base import MaskHeadConfig
from detcfg.heads.roi.base import RoIHead, RoIHeadConfig
from detcfg.heads.roi.common import RoITestConfig, wired_head
from detcfg.heads.roi.shared_head import SharedHeadConfig
from detcfg.heads.roi.stage import RoIStage
from detcfg.roi_extractors.base import RoIExtractorConfig, bbox2roi
from detcfg.roi_extractors.single_level import SingleRoIExtractorConfig
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class StandardRoIHeadConfig(RoIHeadConfig):
    """Pool each proposal, classify and refine it, and, with a mask head, predict its mask.

    Follows mmdet/models/roi_heads/standard_roi_head.py.
    """

    bbox_roi_extractor: RoIExtractorConfig = SingleRoIExtractorConfig()
    """Pools features for the bbox head."""
    shared_head: SharedHeadConfig | None = None
    """Layers on the pooled features, before bbox head and mask head; None: there are none."""
    bbox_head: BBoxHeadConfig = Shared2FCBBoxHeadConfig()
    """Classifies rois and refines their boxes."""
    mask_roi_extractor: RoIExtractorConfig | None = None
    """Pools features for the mask head; None: it reads those pooled for the bbox head."""
    mask_head: MaskHeadConfig | None = None
    """Predicts masks; None: no masks."""
    assigner: AssignerConfig = MaxIoUAssignerConfig(
        pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, match_low_quality=False
    )
    """Assigns ground-truth boxes to proposals."""
    sampler: SamplerConfig = RandomSamplerConfig(num=512, pos_fraction=0.25)
    """Samples the positives and negatives that enter the loss."""
    pos_weight: WeightOrOff = -1.0
    """Weight of positives in the classification loss; at most 0 for 1."""
    test_cfg: RoITestConfig = RoITestConfig()
    """How predictions become detections."""

    def wired(self) -> Self:
        wired = super().wired()
        return wired if is_unset(wired.in_strides) else wired.with_inputs()

    def with_inputs(self, stage: str = "") -> Self:
        """This config with the inputs of its parts filled in.

        Args:
            stage: For a stage of a cascade ".0", ".1" ...: what follows the names of its parts in errors.

        Raises:
            ConfigError: A part was given other inputs, or the assigner goes by more than boxes.
        """
        if not self.assigner.assigns_anchors:
            raise ConfigError(
                f"assigner{stage} is {type(self.assigner).__name__}, which goes by more than the boxes of proposals. "
                "Give one that goes by boxes alone, such as MaxIoUAssignerConfig."
            )
        source = f"bbox_roi_extractor{stage}"
        extractor = self.bbox_roi_extractor.fed(self.in_channels, self.in_strides)
        shared = self.shared_head
        if shared is not None:
            shared = wired_head(shared, source, extractor)
        bbox_head = fill(self.bbox_head, "num_classes", num_classes=self.num_classes)
        bbox_head = wired_head(bbox_head, source, extractor, shared)
        mask_extractor, mask_head = self.mask_roi_extractor, self.mask_head
        if mask_extractor is not None:
            source = f"mask_roi_extractor{stage}"
            mask_extractor = mask_extractor.fed(self.in_channels, self.in_strides)
        if mask_head is not None:
            mask_head = fill(mask_head, "num_classes", num_classes=self.num_classes)
            mask_head = wired_head(mask_head, source, mask_extractor or extractor, shared)
        return evolve(
            self,
            bbox_roi_extractor=extractor,
            shared_head=shared,
            bbox_head=bbox_head,
            mask_roi_extractor=mask_extractor,
            mask_head=mask_head,
        )

    def build(self) -> StandardRoIHead:
        return StandardRoIHead(self.resolved())


class StandardRoIHead(RoIStage, RoIHead):
    """One `RoIStage`, trained on the proposals, which makes detections of them.

    A subclass may override `assign`, `pool` and `bbox_forward` of the stage. One with a further branch adds its
    losses by `extra_losses`.
    """

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
        results = self.bbox_results(features, samplings)
        losses = self.bbox_loss(results, samplings) | self.extra_losses(features, samplings, batch)
        if self.mask_head is not None:
            pooled = self.pool_positives(features, results.pooled, samplings)
            losses |= self.mask_loss(features, pooled, samplings, batch)
        return losses

    def extra_losses(
        self, features: tuple[Tensor, ...], samplings: Sequence[SamplingResult], batch: ImageBatch
    ) -> dict[str, Tensor]:
        """The losses of a further branch, for a subclass that has one; here none."""
        del features, samplings, batch
        return {}

    def pool_positives(
        self, features: tuple[Tensor, ...], pooled: Tensor, samplings: Sequence[SamplingResult]
    ) -> Tensor:
        """The features (P, C', S, S) of the positives for the mask head.

        `pooled` (R, C', S, S) are those of all sampled rois for the bbox head, which the mask head reads as well
        if it has no extractor of its own.
        """
        if self.mask_roi_extractor is not None:
            return self.pool_masks(features, bbox2roi([sampling.pos_priors for sampling in samplings]))
        return pooled[torch.cat([_is_positive(sampling) for sampling in samplings])]

    def predict(
        self, features: tuple[Tensor, ...], proposals: Sequence[Detections], batch: ImageBatch
    ) -> list[Detections]:
        detections = self.predict_boxes(features, proposals, batch, rescale=self.mask_head is None)
        return detections if self.mask_head is None else self.predict_masks(features, detections, batch)

    def predict_boxes(
        self,
        features: tuple[Tensor, ...],
        proposals: Sequence[Detections],
        batch: ImageBatch,
        *,
        rescale: bool,
    ) -> list[Detections]:
        """The detections of each image without masks, in output pixels if `rescale`, else in network pixels."""
        rois = bbox2roi([image.boxes for image in proposals])
        cls_score, bbox_pred, _ = self.bbox_forward(features, rois)
        counts = [len(image) for image in proposals]
        return self.detections(rois, cls_score, bbox_pred, counts=counts, batch=batch, rescale=rescale)

    def predict_masks(
        self, features: tuple[Tensor, ...], detections: Sequence[Detections], batch: ImageBatch
    ) -> list[Detections]:
        """Detections in network pixels to detections in output pixels with masks."""
        pooled = self.pool_masks(features, bbox2roi([image.boxes for image in detections]))
        masked: list[Detections] = []
        for index, part in enumerate(torch.split(pooled, [len(image) for image in detections])):
            boxes = scale_boxes(detections[index].boxes, batch.scales(index))
            scaled = evolve(detections[index], boxes=boxes)
            masked.append(self.with_masks(scaled, part, batch.output_sizes[index]))
        return masked

    def with_masks(self, detections: Detections, pooled: Tensor, size: tuple[int, int]) -> Detections:
        """The n detections of one image with their masks.

        Args:
            detections: In output pixels.
            pooled: (n, C', S, S): their features for the mask head.
            size: (height, width) of the output.
        """
        assert self.mask_head is not None
        threshold = self.test_cfg.mask_thr_binary
        masks = self.mask_head.predict(pooled, detections.boxes, detections.labels, size, threshold)
        return evolve(detections, masks=masks)


def _is_positive(sampling: SamplingResult) -> Tensor:
    """(P + Q,) bool: positives come first."""
    return torch.arange(len(sampling.priors), device=sampling.pos_inds.device) < sampling.num_pos
