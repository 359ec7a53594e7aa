"""The RoI head of prime sample attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import evolve, frozen
from torch import Tensor

from detcfg.boxes.iou import bbox_overlaps
from detcfg.boxes.samplers.base import SamplerConfig, SamplingResult, objects_of_batch
from detcfg.boxes.samplers.score_hlr import Judge, Judgement, ScoreHLRSamplerConfig
from detcfg.heads.bbox.bbox_head import BBoxTargets
from detcfg.heads.roi.standard_roi_head import StandardRoIHead, StandardRoIHeadConfig
from detcfg.losses.pisa import CARLConfig, ISRConfig
from detcfg.roi_extractors.base import bbox2roi
from detcfg.structures import Detections, Targets


@frozen(kw_only=True)
class PISARoIHeadConfig(StandardRoIHeadConfig):
    """PISA (Cao et al., 2019, https://arxiv.org/abs/1904.04821).

    Follows mmdet/models/roi_heads/pisa_roi_head.py.
    """

    sampler: SamplerConfig = ScoreHLRSamplerConfig(num=512, pos_fraction=0.25)
    """Which of the assigned priors are learnt from."""
    isr: ISRConfig | None = ISRConfig()
    """How positives are weighted in classification; None: as they are."""
    carl: CARLConfig | None = CARLConfig()
    """The loss of boxes and scores together; None: none."""

    def build(self) -> PISARoIHead:
        return PISARoIHead(self.resolved())


class PISARoIHead(StandardRoIHead):
    def __init__(self, config: PISARoIHeadConfig) -> None:
        super().__init__(config)
        self.isr = config.isr
        self.carl = config.carl

    def sample(
        self, features: tuple[Tensor, ...], proposals: Sequence[Detections], targets: Sequence[Targets]
    ) -> list[SamplingResult]:
        return [
            self.sampler.sample(
                self.assigner.assign(found.boxes, objects),
                found.boxes,
                objects,
                hardness=_ImageJudge(self, features, index),
            )
            for index, (found, objects) in enumerate(zip(proposals, targets, strict=True))
        ]

    def bbox_loss(
        self, features: tuple[Tensor, ...], samplings: Sequence[SamplingResult]
    ) -> tuple[dict[str, Tensor], Tensor]:
        rois = bbox2roi([sampling.priors for sampling in samplings])
        cls_score, bbox_pred, pooled = self.bbox_forward(features, rois)
        targets = self.bbox_head.targets(samplings, self.pos_weight)
        positive = (targets.labels < self.bbox_head.num_classes).nonzero().squeeze(1)
        if self.isr is not None:
            targets = self.reweighted(
                self.isr,
                cls_score,
                bbox_pred,
                rois=rois,
                targets=targets,
                samplings=samplings,
                positive=positive,
            )
        losses = self.bbox_head.loss(cls_score, bbox_pred, rois, targets)
        if self.carl is not None:
            scores = cls_score.softmax(dim=-1)[positive, targets.labels[positive]]
            pred, wanted = self._boxes(bbox_pred, rois, targets, positive)
            box_losses = self.bbox_head.loss_bbox(pred, wanted, reduction_override="none")
            losses["loss_carl"] = self.carl.loss(scores, box_losses, len(rois))
        return losses, pooled

    @torch.no_grad()
    def reweighted(
        self,
        isr: ISRConfig,
        cls_score: Tensor,
        bbox_pred: Tensor,
        *,
        rois: Tensor,
        targets: BBoxTargets,
        samplings: Sequence[SamplingResult],
        positive: Tensor,
    ) -> BBoxTargets:
        """The targets with other weights of the positives, whose indices are `positive` (P,)."""
        head = self.bbox_head
        labels = targets.labels[positive]
        pred, wanted = self._boxes(bbox_pred, rois, targets, positive)
        if not head.reg_decoded_bbox:
            priors = rois[positive, 1:]
            pred, wanted = head.bbox_coder.decode(priors, pred), head.bbox_coder.decode(priors, wanted)
        weights = targets.label_weights.clone()
        weights[positive] = isr.weights(
            head.hardness(cls_score[positive], labels),
            bbox_overlaps(pred, wanted, is_aligned=True),
            labels,
            objects_of_batch(samplings),
            weights[positive],
        )
        return evolve(targets, label_weights=weights)

    def _boxes(
        self, bbox_pred: Tensor, rois: Tensor, targets: BBoxTargets, positive: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Prediction and target (P, 4) of the positives, as `loss_bbox` compares them."""
        pred = self.bbox_head.boxes_of_labels(bbox_pred, targets.labels, positive)
        if self.bbox_head.reg_decoded_bbox:
            pred = self.bbox_head.bbox_coder.decode(rois[positive, 1:], pred)
        return pred, targets.bbox_targets[positive]


class _ImageJudge(Judge):
    """What the head takes the priors of one image for."""

    def __init__(self, head: PISARoIHead, features: tuple[Tensor, ...], image: int) -> None:
        self.head, self.features, self.image = head, features, image

    @torch.no_grad()
    def __call__(self, priors: Tensor, labels: Tensor | None, /) -> Tensor:
        cls_score, _, _ = self.head.bbox_forward(self.features, self._rois(priors))
        return self.head.bbox_head.hardness(cls_score, labels)

    @torch.no_grad()
    def judge(self, priors: Tensor) -> Judgement:
        head = self.head.bbox_head
        cls_score, bbox_pred, _ = self.head.bbox_forward(self.features, self._rois(priors))
        scores, labels = head.probabilities(cls_score).max(dim=1)
        rows = torch.arange(len(priors), device=priors.device)
        boxes = head.bbox_coder.decode(priors, head.boxes_of_labels(bbox_pred, labels, rows))
        return Judgement(scores=scores, boxes=boxes, losses=head.hardness(cls_score, None))

    def _rois(self, priors: Tensor) -> Tensor:
        return torch.cat([priors.new_full((len(priors), 1), self.image), priors], dim=1)
