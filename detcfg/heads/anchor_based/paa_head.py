"""The head of PAA.

Shapes: B images; A anchors over all levels; K classes; P candidates of the batch, which are the positives of a
first assignment; N ground-truth objects of the batch, M candidates of each at most; D detections.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import evolve, frozen
from torch import Tensor

from detcfg.boxes.assigners.base import AssignerConfig
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.geometry import scale_boxes
from detcfg.boxes.iou import bbox_overlaps
from detcfg.boxes.mixture import Covariance, fit_mixtures
from detcfg.boxes.nms import multiclass_nms
from detcfg.boxes.rank import rank_within
from detcfg.boxes.voting import vote
from detcfg.config.ranges import PositiveInt
from detcfg.heads.anchor_based.atss_head import ATSSHead, ATSSHeadConfig
from detcfg.heads.dense.levels import flatten_level, flatten_levels, level_of_each, of_positives
from detcfg.losses.base import LossConfig
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.losses.giou import GIoULossConfig
from detcfg.losses.reduce import shared_factor
from detcfg.structures import Detections, ImageBatch, Targets

EPS = 1e-12


@frozen(kw_only=True)
class PAAHeadConfig(ATSSHeadConfig):
    """Positives are the anchors of an object whose losses are like the best ones' (Kim and Lee, 2020).

    https://arxiv.org/abs/2007.08103. `loss_centerness` is the loss of predicted IoUs. Follows
    mmdet/models/dense_heads/paa_head.py.
    """

    topk: PositiveInt = 9
    """Candidates of each object on each level, those of least loss."""
    score_voting: bool = True
    """Whether detected boxes are averaged with the candidates around them."""
    covariance_type: Covariance = "diag"
    """Whether the two components that good and bad candidates are told apart by have one variance ("tied")."""
    loss_bbox: LossConfig = GIoULossConfig(loss_weight=1.3)
    """Box regression loss."""
    loss_centerness: LossConfig = CrossEntropyLossConfig(use_sigmoid=True, loss_weight=0.5)
    """The loss of the centerness."""
    assigner: AssignerConfig = MaxIoUAssignerConfig(pos_iou_thr=0.1, neg_iou_thr=0.1)
    """Assigns ground-truth boxes to priors."""

    def build(self) -> PAAHead:
        return PAAHead(self.resolved())


class PAAHead(ATSSHead):
    """ATSS's layers, of which the last predicts how much a box overlaps its object."""

    def __init__(self, config: PAAHeadConfig) -> None:
        super().__init__(config)
        self.topk = config.topk
        self.score_voting = config.score_voting
        self.covariance_type: Covariance = config.covariance_type

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        cls_scores, bbox_preds, iou_preds = predictions
        anchors = self.priors(cls_scores)
        anchor_targets = self.get_targets(anchors, cls_scores, batch, targets)
        scores, deltas = self.flat_scores(cls_scores), self.flat_deltas(bbox_preds)
        flat, level = torch.cat(list(anchors)), level_of_each(anchors)
        gt_inds = anchor_targets.gt_inds
        candidate = gt_inds >= 0
        with torch.no_grad():
            loss = self.loss_cls(
                scores[candidate],
                anchor_targets.labels[candidate],
                anchor_targets.label_weights[candidate],
                reduction_override="none",
            ).sum(dim=-1) + self.loss_bbox(
                self.bbox_coder.decode(of_positives(flat, candidate), deltas[candidate]),
                anchor_targets.bbox_targets[candidate],
                anchor_targets.bbox_weights[candidate],
                reduction_override="none",
            )
            good = self.reassign(loss, gt_inds[candidate], of_positives(level, candidate))
        positive = candidate.clone()
        positive[candidate] = good

        labels = anchor_targets.labels.where(positive, self.num_classes)
        count = positive.sum()
        boxes = self.bbox_coder.decode(of_positives(flat, positive), deltas[positive])
        gt_boxes = anchor_targets.bbox_targets[positive]
        overlaps = bbox_overlaps(boxes.detach(), gt_boxes, is_aligned=True)
        return {
            "loss_cls": self.loss_cls(
                scores.flatten(0, 1),
                labels.flatten(),
                anchor_targets.label_weights.flatten(),
                avg_factor=shared_factor(count, scores, least=0.0).clamp(min=len(batch)),
            ),
            "loss_bbox": self.loss_bbox(boxes, gt_boxes, overlaps.clamp(min=EPS), avg_factor=overlaps.sum()),
            "loss_iou": self.loss_centerness(
                flatten_levels(iou_preds, 1)[positive], overlaps[:, None], avg_factor=count
            ),
        }

    def reassign(self, losses: Tensor, gt_inds: Tensor, level: Tensor) -> Tensor:
        """(P,) bool: which candidates are positive after all.

        Two components are fitted to the losses of each object's best candidates of each level; positives are
        those of the lower one, up to the one that is most probable.

        Args:
            losses: (P,).
            gt_inds: (P,) int64, the object of each candidate.
            level: (P,) int64, the level of each.
        """
        if len(losses) == 0:
            return torch.zeros_like(losses, dtype=torch.bool)
        cells = gt_inds * (int(level.max()) + 1) + level
        best = torch.nonzero(rank_within(-losses, cells) < self.topk).squeeze(1)
        rows, columns = gt_inds[best], rank_within(-losses[best], gt_inds[best])  # by rising loss
        shape = (int(rows.max()) + 1, int(columns.max()) + 1)
        values = losses.new_zeros(shape).index_put((rows, columns), losses[best])
        valid = torch.zeros(shape, dtype=torch.bool, device=losses.device)
        valid[rows, columns] = True
        # On the CPU the many small steps cost less.
        mixtures = fit_mixtures(
            values.cpu(), (valid | ~valid.any(1, keepdim=True)).cpu(), self.covariance_type
        )
        low = (mixtures.component == 0).to(valid.device) & valid & (valid.sum(1, keepdim=True) > 1)
        likelihood = mixtures.log_likelihood.to(valid.device).where(low, -torch.inf)
        last = likelihood.argmax(dim=1, keepdim=True)
        positive = low & (torch.arange(shape[1], device=low.device) <= last)
        return torch.zeros_like(losses, dtype=torch.bool).index_put((best,), positive[rows, columns])

    def detections(self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch) -> list[Detections]:
        cls_scores, bbox_preds, iou_preds = predictions
        anchors = self.priors(cls_scores)
        found: list[Detections] = []
        for image, size in enumerate(batch.sizes):
            boxes: list[Tensor] = []
            scores: list[Tensor] = []
            for level, level_anchors in enumerate(anchors):
                classes = flatten_level(cls_scores[level], self.cls_out_channels)[image].detach().sigmoid()
                overlap = flatten_level(iou_preds[level], 1)[image].detach().sigmoid()
                deltas = flatten_level(bbox_preds[level], 4)[image].detach()
                joint = (classes * overlap).sqrt()
                if 0 < self.test_cfg.nms_pre < len(joint):
                    best = joint.amax(dim=1).topk(self.test_cfg.nms_pre).indices
                    joint, deltas, level_anchors = joint[best], deltas[best], level_anchors[best]  # noqa: PLW2901
                boxes.append(self.bbox_coder.decode(level_anchors, deltas, max_shape=size))
                scores.append(joint)
            scaled = scale_boxes(torch.cat(boxes), batch.scales(image))
            found.append(self._chosen(scaled, torch.cat(scores)))
        return found

    def _chosen(self, boxes: Tensor, scores: Tensor) -> Detections:
        """The detections among boxes (n, 4) with scores (n, K)."""
        test_cfg = self.test_cfg
        kept, found, labels, _ = multiclass_nms(
            boxes, scores, score_thr=test_cfg.score_thr, nms=test_cfg.nms, max_per_img=test_cfg.max_per_img
        )
        detections = Detections(boxes=kept, scores=found, labels=labels)
        if not self.score_voting:
            return detections
        voters, classes = (scores > test_cfg.score_thr).nonzero(as_tuple=True)
        candidates = Detections(boxes=boxes[voters], scores=scores[voters, classes], labels=classes)
        return evolve(detections, boxes=vote(detections, candidates))
