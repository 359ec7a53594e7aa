"""From what a dense head predicts to detections.

Shapes: B images; n_i priors of level i, A over all levels; K classes, C logits of a prior; c candidates and D
detections of one image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.geometry import scale_boxes
from detcfg.boxes.nms import NMSConfig
from detcfg.config import Config
from detcfg.config.ranges import CountOrAll, Fraction
from detcfg.structures import Detections, ImageBatch


@frozen(kw_only=True)
class DenseTestConfig(Config):
    """How the detections of a dense head are chosen (MMDetection's `test_cfg`)."""

    nms_pre: CountOrAll = 1000
    """Candidates of each level that go on to NMS, the best by score; -1 for all."""
    min_bbox_size: float = 0.0
    """Boxes at most this wide or high, in pixels, are dropped; negative: none are."""
    score_thr: Fraction = 0.05
    """Candidates with a score of at most this are dropped."""
    geometric_scores: bool = False
    """Score = sqrt(class score x score factor), thresholded after that (torchvision's FCOS); else class score x
    score factor, thresholded before."""
    nms: NMSConfig = NMSConfig(iou_threshold=0.5)
    """Non-maximum suppression within each class."""
    max_per_img: CountOrAll = 100
    """Detections of an image at most, the best by score; -1 for all."""


class Decode(Protocol):
    """Priors (n, ...) and predictions (n, ...) to boxes (n, 4) in an image of (height, width)."""

    def __call__(
        self, priors: Tensor, pred: Tensor, /, max_shape: tuple[int, int] | None = None
    ) -> Tensor: ...


def top_candidates(scores: Tensor, score_thr: float, nms_pre: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best candidates of a level.

    Args:
        scores: (n, K), without background.
        score_thr: Scores of at most this are dropped.
        nms_pre: At most so many; -1 for all.

    Returns:
        Scores, labels and indices of the predictions, (c,) each, by falling score.

    Follows `filter_scores_and_topk` in mmdet/models/utils/misc.py.
    """
    above = scores > score_thr
    indices, labels = above.nonzero(as_tuple=True)
    found, order = scores[above].sort(descending=True)
    if nms_pre >= 0:
        found, order = found[:nms_pre], order[:nms_pre]
    return found, labels[order], indices[order]


def select_detections(
    boxes: Tensor, scores: Tensor, labels: Tensor, *, test_cfg: DenseTestConfig, scales: tuple[float, float]
) -> tuple[Detections, Tensor]:
    """The detections among the candidates of one image, by size, NMS and rank.

    Args:
        boxes: (c, 4) in network pixels.
        scores: (c,).
        labels: (c,).
        test_cfg: How they are chosen.
        scales: `ImageBatch.scales` of the image.

    Returns:
        The detections in output pixels, and the candidate that each is (D,) int64.

    Follows `_bbox_post_process` in mmdet/models/dense_heads/base_dense_head.py.
    """
    boxes = scale_boxes(boxes, scales)
    indices = torch.arange(len(boxes), device=boxes.device)
    if test_cfg.min_bbox_size >= 0:
        large = ((boxes[:, 2:] - boxes[:, :2]) > test_cfg.min_bbox_size).all(dim=1)
        indices = indices[large]
        boxes, scores, labels = boxes[indices], scores[indices], labels[indices]
    kept, scores = test_cfg.nms.keep(boxes, scores, labels)
    if test_cfg.max_per_img >= 0:
        kept, scores = kept[: test_cfg.max_per_img], scores[: test_cfg.max_per_img]
    return Detections(boxes=boxes[kept], scores=scores, labels=labels[kept]), indices[kept]


def postprocess(
    cls_scores: Sequence[Tensor],
    bbox_preds: Sequence[Tensor],
    priors: Sequence[Tensor],
    batch: ImageBatch,
    *,
    test_cfg: DenseTestConfig,
    probabilities: Callable[[Tensor], Tensor],
    decode: Decode,
    score_factors: Sequence[Tensor] | None = None,
) -> list[tuple[Detections, Tensor]]:
    """The detections of each image of a batch, from the predictions of each level.

    Args:
        cls_scores: (B, n_i, C) logits of each level.
        bbox_preds: (B, n_i, ...) of each level.
        priors: (n_i, ...) of each level.
        batch: The images.
        test_cfg: How detections are chosen.
        probabilities: Logits (n, C) to scores (n, K).
        decode: The head's box decoder.
        score_factors: (B, n_i) of each level, in [0, 1], such as the predicted centerness.

    Returns:
        For each image its detections in output pixels, and the prior that each comes from (D,) int64, counted
        over all A.

    Follows mmdet/models/dense_heads/base_dense_head.py.
    """
    detections: list[tuple[Detections, Tensor]] = []
    for image, size in enumerate(batch.sizes):
        boxes: list[Tensor] = []
        scores: list[Tensor] = []
        labels: list[Tensor] = []
        inds: list[Tensor] = []
        start = 0
        for level, level_priors in enumerate(priors):
            found = probabilities(cls_scores[level][image].detach())
            factor = None if score_factors is None else score_factors[level][image].detach()
            if factor is not None and test_cfg.geometric_scores:
                found, factor = (found * factor[:, None]).sqrt(), None
            score, label, index = top_candidates(found, test_cfg.score_thr, test_cfg.nms_pre)
            if factor is not None:
                score = score * factor[index]
            pred = bbox_preds[level][image].detach()[index]
            boxes.append(decode(level_priors[index], pred, max_shape=size))
            scores.append(score)
            labels.append(label)
            inds.append(index + start)
            start += len(level_priors)
        chosen, kept = select_detections(
            torch.cat(boxes),
            torch.cat(scores),
            torch.cat(labels),
            test_cfg=test_cfg,
            scales=batch.scales(image),
        )
        detections.append((chosen, torch.cat(inds)[kept]))
    return detections
