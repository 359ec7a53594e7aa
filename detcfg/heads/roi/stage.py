"""One stage of a RoI head: proposals to losses, and to refined boxes.

Shapes: B images; features are (B, C, H_i, W_i), finest first; R rois and P positives over the whole batch;
S the side of pooled features; K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.assigners.base import AssignerConfig, Assignment
from detcfg.boxes.geometry import scale_boxes
from detcfg.boxes.nms import multiclass_nms
from detcfg.boxes.samplers.base import PriorPredictions, PriorScorer, SamplerConfig, SamplingResult
from detcfg.heads.bbox.bbox_head import BBoxHead, BBoxTargets
from detcfg.heads.mask.base import MaskHead
from detcfg.heads.mask.fcn_mask_head import FCNMaskHead
from detcfg.heads.roi.common import RoITestConfig
from detcfg.roi_extractors.base import RoIExtractor, bbox2roi
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(eq=False)
class BBoxResults:
    """What the bbox head predicts for the sampled rois of a batch, and its targets."""

    rois: Tensor
    """(R, 5)."""
    cls_score: Tensor
    """(R, C) logits."""
    bbox_pred: Tensor
    """(R, K * 4) or (R, 4) deltas."""
    pooled: Tensor
    """(R, C', S, S): the features that it read."""
    targets: BBoxTargets


class RoIStage:
    """Samples proposals, pools their features, and trains a bbox head and perhaps a mask head on them.

    `StandardRoIHead` is one such stage, a cascade runs several in turn. A subclass may override how ground truth
    is assigned (`assign`), how rois are pooled (`pool`) and how they become predictions (`bbox_forward`):
    training, prediction and hard example mining all go through these.
    """

    bbox_roi_extractor: RoIExtractor
    shared_head: nn.Module | None
    bbox_head: BBoxHead
    mask_roi_extractor: RoIExtractor | None
    mask_head: MaskHead | None
    assigner: AssignerConfig
    sampler: SamplerConfig
    pos_weight: float
    test_cfg: RoITestConfig

    @property
    def fcn_mask_head(self) -> FCNMaskHead:
        """The mask head, for RoI heads whose configs have one of this kind."""
        assert isinstance(self.mask_head, FCNMaskHead)
        return self.mask_head

    def sample(
        self, features: tuple[Tensor, ...], proposals: Sequence[Detections], targets: Sequence[Targets]
    ) -> list[SamplingResult]:
        """The positives and negatives of each image that enter the loss."""
        images = zip(self.assign(proposals, targets), proposals, targets, strict=True)
        return [
            self.sampler.sample(assignment, image.boxes, objects, scorer=StageScorer(self, features, index))
            for index, (assignment, image, objects) in enumerate(images)
        ]

    def assign(self, proposals: Sequence[Detections], targets: Sequence[Targets]) -> list[Assignment]:
        """The ground truth of each proposal, image by image."""
        return [
            self.assigner.assign_anchors(image.boxes, objects, (len(image.boxes),))
            for image, objects in zip(proposals, targets, strict=True)
        ]

    def bbox_forward(self, features: tuple[Tensor, ...], rois: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (R, C) and box deltas of rois (R, 5), and their pooled features (R, C', S, S)."""
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
        """The features (R, C', S, S) of rois (R, 5), through the shared head if there is one.

        Args:
            features: All levels.
            rois: (R, 5) = (image index, x1, y1, x2, y2) in network pixels.
            roi_scale_factor: Enlarges each roi about its centre before pooling; None: as it is.
            extractor: Pools them; None: the bbox head's.
        """
        pooled: Tensor = (extractor or self.bbox_roi_extractor)(features, rois, roi_scale_factor)
        return pooled if self.shared_head is None else self.shared_head(pooled)

    def bbox_results(self, features: tuple[Tensor, ...], samplings: Sequence[SamplingResult]) -> BBoxResults:
        """The predictions of the bbox head for the sampled rois, and its targets."""
        rois = bbox2roi([sampling.priors for sampling in samplings])
        cls_score, bbox_pred, pooled = self.bbox_forward(features, rois)
        targets = self.bbox_head.targets(samplings, self.pos_weight)
        return BBoxResults(rois, cls_score, bbox_pred, pooled, targets)

    def bbox_loss(self, results: BBoxResults, samplings: Sequence[SamplingResult]) -> dict[str, Tensor]:
        """The losses of the bbox head; `results` are those of `samplings`."""
        del samplings
        return self.bbox_head.loss(results.cls_score, results.bbox_pred, results.rois, results.targets)

    def pool_masks(self, features: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        """The features (R, C', S, S) of rois (R, 5) for the mask head."""
        return self.pool(features, rois, extractor=self.mask_roi_extractor)

    def mask_loss(
        self,
        features: tuple[Tensor, ...],
        pooled: Tensor,
        samplings: Sequence[SamplingResult],
        batch: ImageBatch,
    ) -> dict[str, Tensor]:
        """The losses of the mask head on the positives.

        Args:
            features: All levels, for heads that read them once more.
            pooled: (P, C', S, S): the features of the positives for the mask head.
            samplings: Of each image.
            batch: The images.
        """
        del features
        assert self.mask_head is not None
        height, width = batch.tensor.shape[-2:]
        return self.mask_head.loss(pooled, samplings, (height, width))

    def detections(
        self,
        rois: Tensor,
        cls_score: Tensor,
        bbox_pred: Tensor,
        *,
        counts: list[int],
        batch: ImageBatch,
        rescale: bool,
    ) -> list[Detections]:
        """The detections of each image.

        Args:
            rois: (R, 5), image by image.
            cls_score: (R, C) logits.
            bbox_pred: (R, K * 4) or (R, 4) deltas.
            counts: The number of rois of each image.
            batch: The images.
            rescale: Whether boxes are in output pixels, rather than in network pixels.
        """
        parts = zip(*(torch.split(values, counts) for values in (rois, cls_score, bbox_pred)), strict=True)
        detections: list[Detections] = []
        for index, (image_rois, logits, deltas) in enumerate(parts):
            boxes = self.bbox_head.decode(image_rois, deltas.float(), batch.sizes[index])
            boxes, scores, labels, _ = multiclass_nms(
                scale_boxes(boxes, batch.scales(index)) if rescale else boxes,
                self.bbox_head.probabilities(logits.float()),
                score_thr=self.test_cfg.score_thr,
                nms=self.test_cfg.nms,
                max_per_img=self.test_cfg.max_per_img,
                score_factors=self.bbox_head.score_factors(deltas.float()),
                min_bbox_size=self.test_cfg.min_bbox_size,
            )
            detections.append(Detections(boxes=boxes, scores=scores, labels=labels))
        return detections


@frozen(eq=False)
class StageScorer(PriorScorer):
    """What a stage in training predicts for priors of one image, by a forward pass without gradients."""

    stage: RoIStage
    features: tuple[Tensor, ...]
    image: int
    """Its index in the batch."""

    @torch.no_grad()
    def sample_losses(self, priors: Tensor, labels: Tensor | None) -> Tensor:
        cls_score, _ = self._forward(priors)
        return self.stage.bbox_head.sample_losses(cls_score, labels)

    @torch.no_grad()
    def predict(self, priors: Tensor) -> PriorPredictions:
        head = self.stage.bbox_head
        cls_score, bbox_pred = self._forward(priors)
        scores, labels = head.probabilities(cls_score).max(dim=1)
        rows = torch.arange(len(priors), device=priors.device)
        return PriorPredictions(
            scores=scores,
            boxes=head.bbox_coder.decode(priors, head.boxes_of_labels(bbox_pred, labels, rows)),
            background_losses=head.sample_losses(cls_score, None),
        )

    def _forward(self, priors: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and deltas of priors (n, 4)."""
        rois = torch.cat([priors.new_full((len(priors), 1), self.image), priors], dim=1)
        cls_score, bbox_pred, _ = self.stage.bbox_forward(self.features, rois)
        return cls_score, bbox_pred
