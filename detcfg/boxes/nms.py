"""Non-maximum suppression.

Shapes: N candidates of one image, R rois, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from attrs import field, frozen, validators

from detcfg import ops
from detcfg.config import Config

if TYPE_CHECKING:
    from torch import Tensor


@frozen(kw_only=True)
class NMSConfig(Config):
    """Of two boxes of one group that overlap too much, the one with the higher score survives.

    Follows `batched_nms` in mmcv/ops/nms.py.
    """

    iou_threshold: float = field(default=0.5, validator=[validators.ge(0), validators.le(1)])
    """Boxes that overlap more than this are the same object."""
    class_agnostic: bool = False
    """Whether boxes of different groups suppress each other too."""

    def keep(self, boxes: Tensor, scores: Tensor, groups: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Which boxes survive.

        Args:
            boxes: (N, 4).
            scores: (N,).
            groups: (N,) int, the class or the level of each box; boxes of different groups do not
                suppress each other.

        Returns:
            Indices of the surviving boxes (S,), by falling score, and their scores (S,).
        """
        if len(boxes) == 0:
            return torch.zeros(0, dtype=torch.long, device=boxes.device), scores
        groups = None if self.class_agnostic else groups
        separate = boxes if groups is None else apart(boxes, groups)
        # Operators of autocast regions come in half precision, which NMS cannot compare.
        return self.survivors(separate.float(), scores.float(), groups)

    def survivors(self, boxes: Tensor, scores: Tensor, groups: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`keep` where boxes of different groups do not overlap."""
        kept = ops.nms(boxes, scores, self.iou_threshold, groups)
        return kept, scores[kept]


def apart(boxes: Tensor, groups: Tensor) -> Tensor:
    """The boxes (N, 4), shifted so that those of different groups (N,) do not meet."""
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
    """Of rois that are scored for each class, the detections.

    Args:
        boxes: (R, 4) for all classes, or (R, K * 4), one box for each class.
        scores: (R, K), without background.
        score_thr: The score that a detection exceeds.
        nms: How the detections of a class are thinned out.
        max_per_img: At most so many; -1 for all.
        score_factors: (R,), by which the scores of what exceeds `score_thr` are multiplied.
        min_bbox_size: The width and the height that a detection exceeds; below 0 for no bound.

    Returns:
        D detections by falling score: boxes (D, 4), scores (D,), labels (D,) and the roi that each
        is from (D,).

    Follows mmdet/models/layers/bbox_nms.py.
    """
    rois, labels = (scores > score_thr).nonzero(as_tuple=True)
    found = scores[rois, labels]
    if score_factors is not None:
        found = found * score_factors[rois]
    per_class = torch.unflatten(boxes, -1, (boxes.shape[-1] // 4, 4))
    candidates = per_class[rois, labels if per_class.shape[1] > 1 else torch.zeros_like(labels)]
    if min_bbox_size >= 0:
        large = ((candidates[:, 2:] - candidates[:, :2]) > min_bbox_size).all(dim=1)
        candidates, found, labels, rois = candidates[large], found[large], labels[large], rois[large]
    kept, found = nms.keep(candidates, found, labels)
    if max_per_img >= 0:
        kept, found = kept[:max_per_img], found[:max_per_img]
    return candidates[kept], found, labels[kept], rois[kept]
