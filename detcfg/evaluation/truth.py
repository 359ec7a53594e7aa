"""Ground truth: the annotations that detections are judged by, read from COCO's format into arrays.

Shapes: I images, O objects, sorted by image; K classes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from detcfg.data.errors import DataError, Problem
from detcfg.data.masks import Segmentations
from detcfg.data.reading import (
    PANOPTIC,
    flag,
    four_numbers,
    identifier,
    is_panoptic,
    other_type,
    place_of,
    problem_of_size,
    records,
)
from detcfg.evaluation.lvis import Lvis

ImageId: TypeAlias = int | str
IoUType: TypeAlias = Literal["bbox", "segm"]
Record: TypeAlias = dict[str, Any]

_FALLBACK = "Write the annotations in COCO's format."


@frozen(eq=False)
class GroundTruth:
    """The images, categories and objects of an annotation file."""

    source: str
    """The file, which errors name."""
    image_ids: list[ImageId]
    """Rising, as pycocotools goes through them: among equal scores, the first image's come first."""
    sizes: list[tuple[int, int]]
    """(height, width) of each image; (0, 0) where it is not given and nothing needs it."""
    category_ids: list[int | str]
    """By label."""
    names: list[str]
    """By label."""
    offsets: NDArray[np.int64]
    """(I + 1,): the objects of image i are rows offsets[i] to offsets[i + 1], the end left out."""
    labels: NDArray[np.int64]
    """(O,)."""
    boxes: NDArray[np.float64]
    """(O, 4): x, y, width, height."""
    areas: NDArray[np.float64]
    """(O,): as annotated, else of the mask, else of the box."""
    crowds: NDArray[np.bool_]
    """(O,)."""
    ignored: NDArray[np.bool_]
    """(O,): crowds, and VOC's difficult objects, of which a COCO file knows nothing."""
    segmentations: Segmentations | None
    lvis: Lvis | None = None
    """What LVIS says besides; None for COCO's rules."""

    @classmethod
    def of(cls, data: object, source: str, iou_type: IoUType) -> GroundTruth:
        """Read annotations.

        Args:
            data: What an annotation file holds.
            source: The file's name.
            iou_type: What is compared, and has to be there: boxes or masks.

        Raises:
            DataError: Something that evaluation needs is missing or wrong.
        """
        return _Reader(data, source, iou_type).truth()


def in_order_of_classes(data: Record, classes: Sequence[str], source: str) -> Record:
    """Annotations whose categories stand in the order of a dataset's classes, which its labels count.

    Args:
        data: In COCO's format; categories that are not as it asks stay as they are, for `GroundTruth.of` to refuse.
        classes: The dataset's.
        source: Where the annotations are from, for errors.

    Raises:
        DataError: The categories have other names than the classes.
    """
    categories: object = data.get("categories")
    if not isinstance(categories, list) or not all(
        isinstance(category, dict) and "name" in category for category in cast("list[object]", categories)
    ):
        return data
    found = cast("list[Record]", categories)
    names = [category["name"] for category in found]
    if sorted(map(str, names)) != sorted(classes):
        raise DataError(
            f"{source}: ground_truth() has the categories {_listed(names)}, but the dataset's classes are "
            f"{_listed(classes)}. A label counts the classes, and is judged by the category of that name: give each "
            "class one category, and no others."
        )
    return {**data, "categories": sorted(found, key=lambda category: classes.index(str(category["name"])))}


def _listed(names: Sequence[object]) -> str:
    """Up to eight names, and how many more."""
    shown = ", ".join(map(repr, names[:8]))
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "none"


class _Reader:
    def __init__(self, data: object, source: str, iou_type: IoUType) -> None:
        self.source, self.iou_type = source, iou_type
        self.problems: list[Problem] = []
        self.data = cast("Record", data) if isinstance(data, dict) else {}
        for key in ("images", "annotations", "categories"):
            if not isinstance(self.data.get(key), list):
                raise DataError(
                    f"{source}: this is not a COCO annotation file: it has no list of {key}. {_FALLBACK}"
                )
        if is_panoptic(self.data):
            raise DataError(f"{source}: {PANOPTIC}")

    def truth(self) -> GroundTruth:
        categories = self._unique("categories", "category")
        images = self._unique("images", "image")
        ids = sorted(images, key=lambda number: (isinstance(number, str), number))
        sizes = [self._size(images[number]) for number in ids]
        entries = records(self.data, "annotations")
        rows = {number: row for row, number in enumerate(ids)}
        labels = {number: label for label, number in enumerate(categories)}
        image_rows = np.array([rows.get(identifier(e, "image_id"), -1) for e in entries], dtype=np.int64)
        order: list[int] = np.argsort(image_rows, kind="stable").tolist()
        entries, image_rows = [entries[i] for i in order], image_rows[order]
        label_of = np.array([labels.get(identifier(e, "category_id"), -1) for e in entries], dtype=np.int64)
        self._check_references(entries, image_rows, label_of, rows, labels)
        boxes = np.array([four_numbers(e.get("bbox")) for e in entries], dtype=np.float64).reshape(-1, 4)
        if self.iou_type == "bbox":
            for i in np.flatnonzero(~np.isfinite(boxes).all(axis=1)).tolist():
                what = f"its bbox {entries[i].get('bbox')} is not four finite numbers"
                self._report(place_of(entries, i), what, "It has to be [x, y, width, height] in pixels.")
        segmentations = self._segmentations(entries, image_rows, sizes) if self.iou_type == "segm" else None
        areas = self._areas(entries, boxes, segmentations, [sizes[row] for row in image_rows.tolist()])
        if self.problems:
            raise DataError.of(self.problems)
        crowds = np.array([flag(e.get("iscrowd")) for e in entries], dtype=bool)
        difficult = np.array([flag(e.get("difficult")) for e in entries], dtype=bool)
        counts = np.bincount(image_rows, minlength=len(ids))
        return GroundTruth(
            source=self.source,
            image_ids=ids,
            sizes=sizes,
            category_ids=list(categories),
            names=[str(category.get("name", number)) for number, category in categories.items()],
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            labels=label_of,
            boxes=boxes,
            areas=areas,
            crowds=crowds,
            ignored=crowds | difficult,
            segmentations=segmentations,
            lvis=Lvis.of(list(categories.values()), [images[i] for i in ids], labels, label_of, image_rows),
        )

    def _report(self, where: str, what: str, remedy: str) -> None:
        self.problems.append(Problem(file=self.source, where=where, what=what, remedy=remedy))

    def _unique(self, key: str, kind: str) -> dict[ImageId, Record]:
        """The entries of a list by their ids."""
        entries = records(self.data, key)
        found: dict[ImageId, Record] = {}
        for index, entry in enumerate(entries):
            number = identifier(entry)
            if number is None:
                self._report(f"{kind} {index} of the list", "it has no id", "Give it one.")
            elif number in found:
                self._report(f"{kind} {number}", "the id occurs twice", f"Give each {kind} an id of its own.")
            else:
                found[number] = entry
        if not found:
            raise DataError(f"{self.source}: its list of {key} is empty. Evaluation needs at least one.")
        return found

    def _size(self, image: Record) -> tuple[int, int]:
        height, width = image.get("height"), image.get("width")
        if not (problem := problem_of_size(height, width)):
            return int(cast("float", height)), int(cast("float", width))
        if self.iou_type == "segm":
            self._report(f"image {image['id']}", problem, "Masks need them: correct the entry.")
        return 0, 0

    def _check_references(
        self,
        entries: list[Record],
        image_rows: NDArray[np.int64],
        labels: NDArray[np.int64],
        images: Collection[ImageId],
        categories: Collection[ImageId],
    ) -> None:
        for i in np.flatnonzero((image_rows < 0) | (labels < 0)).tolist():
            if image_rows[i] < 0:
                given = entries[i].get("image_id")
                end = other_type(given, images) or f"{given!r} is no image of the file"
                self._report(
                    place_of(entries, i), f"its image_id {end}", "Correct it, or drop the annotation."
                )
            else:
                given = entries[i].get("category_id")
                end, remedy = (
                    f"{given!r} has no name in categories",
                    "Name the category, or drop the annotation.",
                )
                if other := other_type(given, categories):
                    end, remedy = other, "Correct it."
                self._report(place_of(entries, i), f"its category_id {end}", remedy)
        if self.problems:  # what follows goes by image and class
            raise DataError.of(self.problems)

    def _segmentations(
        self, entries: list[Record], image_rows: NDArray[np.int64], sizes: list[tuple[int, int]]
    ) -> Segmentations:
        segmentations = Segmentations()
        if entries and not any(entry.get("segmentation") for entry in entries):
            what = f"it has no segmentation, as none of the {len(entries):,} annotations has"
            self._report(place_of(entries, 0), what, "Compare boxes (bbox), or export masks.")
            return segmentations
        for i, entry in enumerate(entries):
            if problem := segmentations.append(entry.get("segmentation"), sizes[int(image_rows[i])]):
                self._report(place_of(entries, i), problem, "Correct it, or drop the annotation.")
        return segmentations

    def _areas(
        self,
        entries: list[Record],
        boxes: NDArray[np.float64],
        segmentations: Segmentations | None,
        sizes: list[tuple[int, int]],
    ) -> NDArray[np.float64]:
        from detcfg.data.masks import area

        areas = np.zeros(len(entries))
        for i, entry in enumerate(entries):
            given = entry.get("area")
            if isinstance(given, int | float) and np.isfinite(given):
                areas[i] = given
            elif segmentations is not None and not self.problems:
                areas[i] = area(segmentations.code(i, sizes[i])["counts"])
            else:
                areas[i] = boxes[i, 2] * boxes[i, 3]
        return areas
