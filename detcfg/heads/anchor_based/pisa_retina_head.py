"""RetinaNet's head with prime sample attention.

Shapes: B images; A anchors over all levels; P positives of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import evolve, frozen
from torch import Tensor

from detcfg.boxes.iou import bbox_overlaps
from detcfg.boxes.samplers.base import objects_of_batch
from detcfg.heads.anchor_based.retina_head import RetinaHead, RetinaHeadConfig
from detcfg.heads.dense.anchor_targets import AnchorTargets
from detcfg.losses.pisa import CARLConfig, ISRConfig


@frozen(kw_only=True)
class PISARetinaHeadConfig(RetinaHeadConfig):
    """PISA (Cao et al., 2019, https://arxiv.org/abs/1904.04821).

    Follows mmdet/models/dense_heads/pisa_retinanet_head.py.
    """

    isr: ISRConfig | None = ISRConfig()
    """How positives are weighted in classification; None: as they are."""
    carl: CARLConfig | None = CARLConfig()
    """The loss of boxes and scores together; None: none."""

    def build(self) -> PISARetinaHead:
        return PISARetinaHead(self.resolved())


class PISARetinaHead(RetinaHead):
    def __init__(self, config: PISARetinaHeadConfig) -> None:
        super().__init__(config)
        self.isr = config.isr
        self.carl = config.carl

    def losses_of_targets(
        self,
        cls_scores: Sequence[Tensor],
        bbox_preds: Sequence[Tensor],
        anchors: Sequence[Tensor],
        targets: AnchorTargets,
    ) -> dict[str, Tensor]:
        positive, priors = targets.positive, targets.priors_of(anchors)
        labels, bbox_targets = targets.labels[positive], targets.bbox_targets[positive]
        scores, pred = self.flat_scores(cls_scores)[positive], self.flat_deltas(bbox_preds)[positive]
        if self.isr is not None:
            with torch.no_grad():
                losses = self.loss_cls(scores, labels, reduction_override="none")
                boxes = self.bbox_coder.decode(priors, pred)
                gt_boxes = (
                    bbox_targets if self.reg_decoded_bbox else self.bbox_coder.decode(priors, bbox_targets)
                )
                weights = targets.label_weights.clone()
                weights[positive] = self.isr.weights(
                    losses if losses.dim() == 1 else losses.sum(dim=1),
                    bbox_overlaps(boxes, gt_boxes, is_aligned=True),
                    labels,
                    objects_of_batch(targets.samplings),
                    weights[positive],
                )
                targets = evolve(targets, label_weights=weights)
        found = super().losses_of_targets(cls_scores, bbox_preds, anchors, targets)
        if self.carl is not None:
            if self.reg_decoded_bbox:
                pred = self.bbox_coder.decode(priors, pred)
            box_losses = self.loss_bbox(pred, bbox_targets, reduction_override="none")
            chances = self.probabilities(scores).gather(1, labels[:, None]).squeeze(1)
            found["loss_carl"] = self.carl.loss(chances, box_losses, targets.avg_factor)
        return found
