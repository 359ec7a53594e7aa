"""A COCO json file of detections, checked against the annotations that it is judged by."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np

from detcfg.data.errors import DataError, Problem
from detcfg.data.masks import Segmentations
from detcfg.data.reading import four_numbers, identifier, other_type, read_json
from detcfg.evaluation.found import ImageDetections, Record
from detcfg.evaluation.truth import GroundTruth, ImageId, IoUType


def read_detections(
    path: str | Path, truth: GroundTruth, iou_type: IoUType
) -> tuple[dict[ImageId, ImageDetections], int]:
    """Read a COCO json file of detections, and check it against the annotations.

    Args:
        path: A list of `{"image_id", "category_id", "score", "bbox" or "segmentation"}`.
        truth: The annotations, which say what images and categories there are.
        iou_type: What is compared, and has to be there: boxes or masks.

    Returns:
        The detections by image, and how many were left out since their category is none of the annotations.

    Raises:
        DataError: The file is absent, broken, or belongs to other images.
    """
    data = read_json(path, "Correct the path of the detections.")
    if not isinstance(data, list):
        raise DataError(
            f"{path}: this is not a file of detections. It has to be a list of "
            '{"image_id", "category_id", "score", "bbox" or "segmentation"}.'
        )
    given = [cast("Record", entry) if isinstance(entry, dict) else {} for entry in cast("list[object]", data)]
    reader = _Reader(str(path), truth, iou_type)
    entries = [entry for index, entry in enumerate(given) if reader.takes(index, entry)]
    if reader.problems:
        raise DataError.of(reader.problems)
    if given and not entries:
        raise DataError(
            f"{path}: no category_id of the detections (the first is {given[0].get('category_id')!r}) is among "
            f"the {len(truth.category_ids)} categories of {truth.source}. Write the ids of its categories, "
            "not labels."
        )
    return reader.by_image(entries), len(given) - len(entries)


class _Reader:
    def __init__(self, path: str, truth: GroundTruth, iou_type: IoUType) -> None:
        self.path, self.truth, self.iou_type = path, truth, iou_type
        self.problems: list[Problem] = []
        self.row_of = {number: row for row, number in enumerate(truth.image_ids)}
        self.label_of = {number: label for label, number in enumerate(truth.category_ids)}
        self.segmentations = Segmentations()

    def takes(self, index: int, entry: Record) -> bool:
        """Whether a detection counts; what is wrong with it is reported."""
        row = self.row_of.get(identifier(entry, "image_id"))
        category, score, box = (
            identifier(entry, "category_id"),
            entry.get("score"),
            four_numbers(entry.get("bbox")),
        )
        problem = ""
        if row is None:
            given = entry.get("image_id")
            end = other_type(given, self.row_of) or f"{given!r} is no image of {self.truth.source}"
            problem = f"its image_id {end}"
        elif category is None:
            problem = "it has no category_id"
        elif type(score) not in (int, float) or not np.isfinite(cast("float", score)):
            problem = f"its score {score!r} is no finite number"
        elif category not in self.label_of:
            if not (end := other_type(category, self.label_of)):
                return False
            problem = f"its category_id {end}"
        elif self.iou_type == "segm":
            problem = self.segmentations.append(entry.get("segmentation"), self.truth.sizes[row])
        elif not np.isfinite(box).all() or min(box[2:]) < 0:
            problem = f"its bbox {entry.get('bbox')} is not [x, y, width, height] in finite numbers"
        if problem:
            remedy = "Correct the file, or write it again with what found them."
            self.problems.append(
                Problem(file=self.path, where=f"detection {index} of the list", what=problem, remedy=remedy)
            )
        return not problem

    def by_image(self, entries: list[Record]) -> dict[ImageId, ImageDetections]:
        """The detections of each image, from entries that `takes` accepted."""
        groups: dict[ImageId, list[int]] = {}
        for index, entry in enumerate(entries):
            groups.setdefault(entry["image_id"], []).append(index)
        return {image_id: self._detections(image_id, entries, rows) for image_id, rows in groups.items()}

    def _detections(self, image_id: ImageId, entries: list[Record], rows: list[int]) -> ImageDetections:
        size = self.truth.sizes[self.row_of[image_id]]
        segm = self.iou_type == "segm"
        return ImageDetections(
            labels=np.array([self.label_of[entries[i]["category_id"]] for i in rows], dtype=np.int64),
            scores=np.array([entries[i]["score"] for i in rows], dtype=np.float64),
            boxes=np.array([four_numbers(entries[i].get("bbox")) for i in rows], dtype=np.float64),
            rles=[self.segmentations.code(i, size) for i in rows] if segm else None,
        )
