"""The IoUs of detections with ground truth, image by image and class by class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from detcfg.data.masks import area
from detcfg.evaluation.found import ImageDetections
from detcfg.evaluation.lvis import Lvis
from detcfg.evaluation.matching import Matches, Pair, match
from detcfg.evaluation.truth import GroundTruth, ImageId, Record

State: TypeAlias = Mapping[ImageId, ImageDetections]
"""The detections of some images; may be pickled and sent to another process."""


def matches_by_class(truth: GroundTruth, found: State, max_dets: int) -> list[list[Matches]]:
    """The matches of each class, in the order of the images.

    Args:
        truth: The annotations.
        found: The detections by image; images that are not in it have none.
        max_dets: How many detections of an image and class count, at most; the best by score.
    """
    classes: list[list[Matches]] = [[] for _ in truth.names]
    nothing = ImageDetections.nothing()
    for row, image_id in enumerate(truth.image_ids):
        here = found.get(image_id, nothing)
        if truth.lvis is not None:
            here = _counted(truth.lvis, here, row, max_dets)
        labels = truth.labels[truth.offsets[row] : truth.offsets[row + 1]]
        present: list[int] = np.unique(np.concatenate([labels, here.labels])).tolist()
        for label in present:
            classes[label].append(match(_pair(truth, row, here, label, max_dets)))
    return classes


def _counted(lvis: Lvis, found: ImageDetections, row: int, max_dets: int) -> ImageDetections:
    """The detections of an image that LVIS counts: the best by score, of classes that are judged there."""
    best = np.sort(np.argsort(-found.scores, kind="stable")[:max_dets])
    return found.at([int(i) for i in best if int(found.labels[i]) in lvis.judged[row]])


def _pair(truth: GroundTruth, row: int, found: ImageDetections, label: int, max_dets: int) -> Pair:
    from pycocotools import mask as coco_mask

    start, end = int(truth.offsets[row]), int(truth.offsets[row + 1])
    objects = start + np.flatnonzero(truth.labels[start:end] == label)
    rows = np.flatnonzero(found.labels == label)
    rows = rows[np.argsort(-found.scores[rows], kind="stable")][:max_dets]
    crowds, some = truth.crowds[objects], bool(len(objects) and len(rows))
    ious = np.zeros((len(rows), len(objects)))
    if truth.segmentations is None:
        boxes = found.boxes[rows]
        areas = boxes[:, 2] * boxes[:, 3]
        if some:
            ious = coco_mask.iou(boxes, truth.boxes[objects], crowds.astype(np.uint8))
    else:
        size = truth.sizes[row]
        masks: list[Record] = [] if found.rles is None else found.rles
        rles = [masks[int(i)] for i in rows]
        areas = np.array([_area(rle) for rle in rles], dtype=np.float64)
        if some:
            targets = [truth.segmentations.code(i, size) for i in objects.tolist()]
            ious = coco_mask.iou(rles, targets, crowds.astype(np.uint8))
    return Pair(
        scores=found.scores[rows],
        detection_areas=areas,
        object_areas=truth.areas[objects],
        ignored=truth.ignored[objects],
        crowds=crowds,
        ious=ious,
        unfinished=truth.lvis is not None and label in truth.lvis.unfinished[row],
    )


def _area(rle: Mapping[str, Any]) -> int:
    counts = rle["counts"]
    return area(counts.encode("ascii") if isinstance(counts, str) else counts)
