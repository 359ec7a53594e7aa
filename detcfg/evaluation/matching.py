"""COCO's average precision in NumPy, equal to pycocotools' to rounding (cocoeval.py there).

Detections and ground-truth objects of one image and one class form a *pair*. In each pair, detections take
objects greedily by falling score, once for each IoU threshold and each range of areas.

Shapes: T IoU thresholds, R recall thresholds, K classes, A area ranges, M limits of detections;
D detections and G ground-truth objects of one pair.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

IOU_THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS: Floats = np.linspace(0.0, 1.0, 101)
AREA_RANGES: Floats = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]], dtype=np.float64)
"""All, small, medium, large, in square pixels; both ends belong to a range."""


@frozen(eq=False)
class Pair:
    """The detections and the objects of one class in one image."""

    scores: Floats
    """(D,), falling."""
    detection_areas: Floats
    """(D,)."""
    object_areas: Floats
    """(G,)."""
    ignored: Bools
    """(G,): crowds and difficult objects, which may be found but need not."""
    crowds: Bools
    """(G,): those that any number of detections may match."""
    ious: Floats
    """(D, G)."""
    unfinished: bool = False
    """Whether not all objects of the class are annotated, so that what matches none may be right."""


@frozen(eq=False)
class Matches:
    """What became of the detections of one pair."""

    scores: Floats
    """(D,), falling."""
    matched: Bools
    """(A, T, D)."""
    ignored: Bools
    """(A, T, D): detections that count neither as right nor as wrong."""
    objects: NDArray[np.int64]
    """(A,): how many objects there were to find."""


def match(pair: Pair) -> Matches:
    """Let the detections of a pair take objects, best score first."""
    low, high = AREA_RANGES[:, :1], AREA_RANGES[:, 1:]
    shape = (len(AREA_RANGES), len(IOU_THRESHOLDS), len(pair.scores))
    matched, ignored = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    passed_over = pair.ignored | (pair.object_areas < low) | (pair.object_areas > high)  # (A, G)
    # Only detections that overlap an object enough for the lowest threshold can match.
    near = np.flatnonzero(pair.ious.max(axis=1, initial=0) >= IOU_THRESHOLDS[0])
    taken = np.zeros((*shape[:2], len(pair.ignored)), dtype=bool)  # (A, T, G)
    thresholds = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)[:, None]
    areas, levels = np.indices(shape[:2])
    for detection in near:
        ious = pair.ious[detection]
        free = (ious >= thresholds) & (~taken | pair.crowds)  # (A, T, G)
        # An object to find comes before one to pass over, whatever their IoUs.
        to_find = free & ~passed_over[:, None]
        only_ignored = ~to_find.any(axis=2, keepdims=True)
        candidates = np.where(free & (to_find | only_ignored), ious, -1)
        # The last of equals, as pycocotools, which goes on while the IoU is not lower.
        best = candidates.shape[2] - 1 - candidates[..., ::-1].argmax(axis=2)  # (A, T)
        hit = free.any(axis=2)
        matched[:, :, detection] = hit
        ignored[:, :, detection] = hit & passed_over[areas, best]
        taken[areas, levels, best] |= hit
    outside = (pair.detection_areas < low) | (pair.detection_areas > high)  # (A, D)
    ignored |= ~matched & (outside[:, None] | pair.unfinished)
    return Matches(pair.scores, matched, ignored, (~passed_over).sum(axis=1))


@frozen(eq=False)
class Curves:
    """Precision by recall, and the recall reached. -1 where a class has no objects."""

    precision: Floats
    """(T, R, K, A, M)."""
    recall: Floats
    """(T, K, A, M)."""


def accumulate(classes: Iterable[list[Matches]], num_classes: int, max_dets: tuple[int, ...]) -> Curves:
    """Put the matches of all images together.

    Args:
        classes: The matches of each class, in the order of the images.
        num_classes: How many classes there are.
        max_dets: How many detections of an image and class count, at most.
    """
    shape = (len(IOU_THRESHOLDS), num_classes, len(AREA_RANGES), len(max_dets))
    precision = np.full((shape[0], len(RECALL_THRESHOLDS), *shape[1:]), -1.0)
    recall = np.full(shape, -1.0)
    for label, matches in enumerate(classes):
        if not matches:
            continue
        objects = np.sum([m.objects for m in matches], axis=0)
        for limit, most in enumerate(max_dets):
            scores = np.concatenate([m.scores[:most] for m in matches])
            order = np.argsort(-scores, kind="stable")
            matched = np.concatenate([m.matched[..., :most] for m in matches], axis=2)[..., order]
            ignored = np.concatenate([m.ignored[..., :most] for m in matches], axis=2)[..., order]
            right = np.cumsum(matched & ~ignored, axis=2, dtype=np.float64)  # (A, T, D)
            wrong = np.cumsum(~matched & ~ignored, axis=2, dtype=np.float64)
            for area in np.flatnonzero(objects):
                reached = right[area] / objects[area]  # (T, D)
                recall[:, label, area, limit] = reached[:, -1] if len(scores) else 0
                precision[:, :, label, area, limit] = _interpolated(right[area], wrong[area], reached)
    return Curves(precision, recall)


def _interpolated(right: Floats, wrong: Floats, recall: Floats) -> Floats:
    """(T, R): the best precision at each recall threshold or beyond it; 0 where it is not reached."""
    precision = right / (right + wrong + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    values = np.zeros((len(recall), len(RECALL_THRESHOLDS)))
    for row, (reached, best) in enumerate(zip(recall, precision, strict=True)):
        first = np.searchsorted(reached, RECALL_THRESHOLDS, side="left")
        is_reached = first < len(reached)
        values[row, is_reached] = best[first[is_reached]]
    return values
