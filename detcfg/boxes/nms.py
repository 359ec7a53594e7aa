"""Non-maximum suppression (NMS).

Shapes: N candidates of one image, R rois, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from attrs import frozen

from detcfg import ops
from detcfg.config import Config
from detcfg.config.ranges import Fraction

if TYPE_CHECKING:
    from torch import Tensor


@frozen(kw_only=True)
class NMSConfig(Config):
    """Non-maximum suppression: a box that overlaps a better one of its class too much is dropped.

    Follows `batched_nms` in mmcv/ops/nms.py.

    >>> import torch
    >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 8.0], [0.0, 0.0, 10.0, 6.0]])
    >>> scores = torch.tensor([0.6, 0.9, 0.7])

    The IoU of the first box with the best, the second, is 0.8; that of the third is 0.75:

    >>> NMSConfig(iou_threshold=0.77).keep(boxes, scores)
    (tensor([1, 2]), tensor([0.9000, 0.7000]))

    The labels keep boxes of different classes apart:

    >>> labels = torch.tensor([1, 0, 0])
    >>> NMSConfig(iou_threshold=0.5).keep(boxes, scores, labels)
    (tensor([1, 0]), tensor([0.9000, 0.6000]))
    """

    iou_threshold: Fraction = 0.5
    """A box is dropped if its IoU with a better one exceeds this. In float32, an IoU of just this much may fall on
    either side, by rounding."""
    class_agnostic: bool = False
    """Whether boxes of different classes suppress each other too."""

    def keep(self, boxes: Tensor, scores: Tensor, groups: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Suppress boxes.

        Args:
            boxes: (N, 4) xyxy.
            scores: (N,).
            groups: (N,) int, the class or the level of each box; boxes of different groups do not
                suppress each other, except with `class_agnostic`.

        Returns:
            Indices of the surviving boxes (S,), by falling score, and their scores (S,).
        """
        if len(boxes) == 0:
            return torch.zeros(0, dtype=torch.long, device=boxes.device), scores
        groups = None if self.class_agnostic else groups
        boxes = boxes if groups is None else offset_by_group(boxes, groups)
        # Operators of autocast regions come in half precision, which NMS cannot compare.
        return self.survivors(boxes.float(), scores.float(), groups)

    def survivors(self, boxes: Tensor, scores: Tensor, groups: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`keep` for boxes that `offset_by_group` moved; what a kind of NMS overrides."""
        kept = ops.nms(boxes, scores, self.iou_threshold, groups)
        return kept, scores[kept]


def offset_by_group(boxes: Tensor, groups: Tensor) -> Tensor:
    """Offset boxes (N, 4) by their group (N,), so that NMS never compares across groups."""
    boxes = boxes.float()
    return boxes + (groups.to(boxes) * (boxes.max() + 1))[:, None]


def multiclass_nms(
    boxes: Tensor,
    scores: Tensor,
    *,
    score_thr: float,
    nms: NMSConfig,
    max_per_img: int,
    score_factors: Tensor | None = None,
    min_bbox_size: float = -1.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The detections of rois that have a score for each class.

    Args:
        boxes: (R, 4) for all classes, or (R, K * 4), one box for each class.
        scores: (R, K), without background.
        score_thr: Candidates with a score of at most this are dropped.
        nms: Non-maximum suppression within each class.
        max_per_img: At most this many detections, the best by score; -1 for all.
        score_factors: (R,), multiplied onto the scores after `score_thr`.
        min_bbox_size: Boxes at most this wide or high, in pixels, are dropped; negative: none are.

    Returns:
        D detections by falling score: boxes (D, 4), scores (D,), labels (D,) and the index of the roi
        that each is from (D,).

    Follows mmdet/models/layers/bbox_nms.py.
    """
    rois, labels = (scores > score_thr).nonzero(as_tuple=True)
    candidate_scores = scores[rois, labels]
    if score_factors is not None:
        candidate_scores = candidate_scores * score_factors[rois]
    per_class = torch.unflatten(boxes, -1, (boxes.shape[-1] // 4, 4))
    candidates = per_class[rois, labels if per_class.shape[1] > 1 else torch.zeros_like(labels)]
    if min_bbox_size >= 0:
        large = ((candidates[:, 2:] - candidates[:, :2]) > min_bbox_size).all(dim=1)
        candidates, candidate_scores = candidates[large], candidate_scores[large]
        labels, rois = labels[large], rois[large]
    kept, kept_scores = nms.keep(candidates, candidate_scores, labels)
    if max_per_img >= 0:
        kept, kept_scores = kept[:max_per_img], kept_scores[:max_per_img]
    return candidates[kept], kept_scores, labels[kept], rois[kept]
