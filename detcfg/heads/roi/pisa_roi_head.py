"""The RoI head of prime sample attention.

Shapes: R rois and P positives over the whole batch; K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import evolve, frozen
from torch import Tensor

from detcfg.boxes.iou import bbox_overlaps
from detcfg.boxes.samplers.base import SamplerConfig, SamplingResult, objects_of_batch
from detcfg.boxes.samplers.score_hlr import ScoreHLRSamplerConfig
from detcfg.heads.bbox.bbox_head import BBoxTargets
from detcfg.heads.roi.stage import BBoxResults
from detcfg.heads.roi.standard_roi_head import StandardRoIHead, StandardRoIHeadConfig
from detcfg.losses.pisa import CARLConfig, ISRConfig


@frozen(kw_only=True)
class PISARoIHeadConfig(StandardRoIHeadConfig):
    """PISA (Cao et al., 2019, https://arxiv.org/abs/1904.04821).

    Follows mmdet/models/roi_heads/pisa_roi_head.py.
    """

    sampler: SamplerConfig = ScoreHLRSamplerConfig(num=512, pos_fraction=0.25)
    """Samples the positives and negatives that enter the loss."""
    isr: ISRConfig | None = ISRConfig()
    """Weighs positives in the classification loss by their importance; None: all alike."""
    carl: CARLConfig | None = CARLConfig()
    """The loss that couples class scores with box losses; None: there is none."""

    def build(self) -> PISARoIHead:
        return PISARoIHead(self.resolved())


class PISARoIHead(StandardRoIHead):
    """Weighs samples by their importance: negatives by the sampler, positives by `isr`."""

    def __init__(self, config: PISARoIHeadConfig) -> None:
        super().__init__(config)
        self.isr = config.isr
        self.carl = config.carl

    def bbox_loss(self, results: BBoxResults, samplings: Sequence[SamplingResult]) -> dict[str, Tensor]:
        labels = results.targets.labels
        positive = (labels < self.bbox_head.num_classes).nonzero().squeeze(1)
        if self.isr is not None:
            targets = self.reweighted(self.isr, results, positive, objects_of_batch(samplings))
            results = evolve(results, targets=targets)
        losses = super().bbox_loss(results, samplings)
        if self.carl is not None:
            scores = results.cls_score.softmax(dim=-1)[positive, labels[positive]]
            pred, target = self._boxes(results, positive)
            box_losses = self.bbox_head.loss_bbox(pred, target, reduction_override="none")
            losses["loss_carl"] = self.carl.loss(scores, box_losses, len(results.rois))
        return losses

    @torch.no_grad()
    def reweighted(
        self, isr: ISRConfig, results: BBoxResults, positive: Tensor, objects: Tensor
    ) -> BBoxTargets:
        """The targets, with positives weighted by their importance.

        Args:
            isr: Gives the weights.
            results: Of the sampled rois.
            positive: (P,) int64: the rows of the positives.
            objects: (P,) int64: the ground-truth object of each, counted over all images.
        """
        head, targets = self.bbox_head, results.targets
        labels = targets.labels[positive]
        pred, target = self._boxes(results, positive)
        if not head.reg_decoded_bbox:
            priors = results.rois[positive, 1:]
            pred, target = head.bbox_coder.decode(priors, pred), head.bbox_coder.decode(priors, target)
        weights = targets.label_weights.clone()
        weights[positive] = isr.weights(
            head.sample_losses(results.cls_score[positive], labels),
            bbox_overlaps(pred, target, is_aligned=True),
            labels,
            objects,
            weights[positive],
        )
        return evolve(targets, label_weights=weights)

    def _boxes(self, results: BBoxResults, positive: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions and targets (P, 4) of the positives, in the form that `loss_bbox` compares."""
        targets = results.targets
        pred = self.bbox_head.boxes_of_labels(results.bbox_pred, targets.labels, positive)
        if self.bbox_head.reg_decoded_bbox:
            pred = self.bbox_head.bbox_coder.decode(results.rois[positive, 1:], pred)
        return pred, targets.bbox_targets[positive]
