"""Data in COCO's json format."""

from __future__ import annotations

from os.path import isdir
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from detcfg.config import did_you_mean
from detcfg.data.classes import COCO_CLASSES
from detcfg.data.errors import DataError, Problem
from detcfg.data.files import FileDataset, FileDatasetConfig, Table, box_problem
from detcfg.data.masks import Segmentations
from detcfg.data.reading import (
    files_in,
    four_numbers,
    identifier,
    place_of,
    problem_of_size,
    read_json,
    records,
)

Record: TypeAlias = dict[str, Any]


@frozen(kw_only=True)
class CocoDatasetConfig(FileDatasetConfig):
    """Images listed in a COCO json file (mmdet/datasets/coco.py).

    Crowds (`iscrowd`) are ignored objects. Objects with `ignore` are left out, as are, with a report,
    objects that are less than a pixel wide or high.
    """

    data_root: str = "data/coco"
    """The folder that `ann_file` and `img_prefix` are in."""
    ann_file: str = "annotations/instances_train2017.json"
    """The json file, seen from `data_root`."""
    img_prefix: str = "train2017"
    """The folder of the images, seen from `data_root`; a `file_name` of the json is seen from there."""
    classes: tuple[str, ...] = COCO_CLASSES
    """The categories to learn, by name, in the order of the labels. The file may hold more: their objects
    are left out."""

    def file_name(self, image: Record) -> object:
        """Where an image lies, by its entry of the json."""
        return image.get("file_name")

    def dataset(self, *, with_mask: bool = False) -> FileDataset:
        config = self.resolved()
        reader = _Reader(config, with_mask=with_mask)
        return FileDataset(config, reader.file, reader.table, reader.problems, reader.truth)


class _Reader:
    """One pass over the json: what is usable becomes a `Table`, what is not a list of problems."""

    def __init__(self, config: CocoDatasetConfig, *, with_mask: bool) -> None:
        self.config = config
        self.file = str(Path(config.data_root, config.ann_file))
        self.problems: list[Problem] = []
        data = self._data()
        self.label_of, self.categories = self._categories(data)
        images = self._images(data)
        self.image_ids = [image["id"] for image in images]
        annotations, self.usable = self._annotations(data, images)
        self.table = self._table(images, annotations, with_mask=with_mask)

    def truth(self) -> Record:
        """The file's own annotations of the usable images and the wanted classes, for evaluation.

        They are read again rather than kept, which would double the memory of a training run.
        """
        data = self._data()
        ids = set(self.image_ids)
        annotations = records(data, "annotations")
        return {
            "images": [image for image in records(data, "images") if identifier(image) in ids],
            "annotations": [a for a, usable in zip(annotations, self.usable, strict=True) if usable],
            "categories": self.categories,
        }

    def _data(self) -> Record:
        data = read_json(self.file, "Correct data_root and ann_file, or put the annotations there.")
        for key in ("images", "categories"):
            if not isinstance(data, dict) or not isinstance(cast("Record", data).get(key), list):
                raise DataError(
                    f"{self.file}: this is not a COCO annotation file: it has no list of {key}. "
                    "Correct ann_file."
                )
        return cast("Record", data)

    def _report(self, where: str, what: str, remedy: str, *, dropped: bool = False) -> None:
        severity: Literal["error", "dropped"] = "dropped" if dropped else "error"
        self.problems.append(
            Problem(file=self.file, where=where, what=what, remedy=remedy, severity=severity)
        )

    def _categories(self, data: Record) -> tuple[dict[int, int], list[Record]]:
        """The label of each category id, -1 for one that is not learnt; and those that are, by label."""
        by_name: dict[str, int] = {}
        label_of: dict[int, int] = {}
        for position, category in enumerate(records(data, "categories")):
            number, name = category.get("id"), category.get("name")
            if type(number) is not int or not isinstance(name, str):
                what = f"it is {category!r}, which has no id and name"
                self._report(f"category {number if number is not None else position}", what, "Name it.")
                continue
            label_of[number] = -1
            if by_name.setdefault(name, number) != number and name in self.config.classes:
                raise DataError(
                    f"{self.file}: categories {by_name[name]} and {number} are both called {name!r}. "
                    "Give them different names."
                )
        for label, name in enumerate(self.config.classes):
            if name not in by_name:
                raise DataError(
                    f"{self.file}: classes names {name!r}, which is no category of the file. "
                    f"{did_you_mean(name, by_name)} Set the dataset's classes to names of the file."
                )
            label_of[by_name[name]] = label
        learnt = {identifier(category): category for category in records(data, "categories")}
        kept = ("id", "name", "frequency")  # the last is LVIS's
        return label_of, [
            {key: learnt[by_name[name]][key] for key in kept if key in learnt[by_name[name]]}
            for name in self.config.classes
        ]

    def _images(self, data: Record) -> list[Record]:
        root = Path(self.config.data_root, self.config.img_prefix)
        remedy = "Correct data_root and img_prefix, or put the images there."
        listed: dict[str, dict[str, str]] = {"": files_in(root, remedy)}
        seen: set[int | str] = set()
        usable: list[Record] = []
        for position, image in enumerate(records(data, "images")):
            number, name = identifier(image), self.config.file_name(image)
            where = f"image {position} of the list" if number is None else f"image {number}"
            if number is None:
                self._report(where, "it has no id", "Give it one.")
            elif number in seen:
                self._report(where, "the id occurs twice", "Give each image an id of its own.")
            elif problem := _problem_of_image(image, name):
                self._report(where, problem, "Correct the entry.")
            else:
                seen.add(number)
                folder, _, base = cast("str", name).rpartition("/")
                if folder not in listed:
                    path = root / PurePosixPath(folder)
                    # Path.is_dir fails on a name that is too long.
                    listed[folder] = files_in(path, remedy) if isdir(path) else {}  # noqa: PTH112
                if base in listed[folder]:
                    usable.append({**image, "path": listed[folder][base]})
                else:
                    self._report(where, f"there is no {root / str(name)}", "Put it there, or drop the entry.")
        return usable

    def _annotations(self, data: Record, images: list[Record]) -> tuple[_Columns, NDArray[np.bool_]]:
        """The columns of the objects to learn, and which annotations of the file evaluation may use."""
        entries = records(data, "annotations")
        columns = _Columns.of(entries, {image["id"]: i for i, image in enumerate(images)}, self.label_of)
        listed = {identifier(image) for image in records(data, "images")}
        usable = columns.images >= 0
        for i in np.flatnonzero(~usable).tolist():
            if identifier(entries[i], "image_id") not in listed:  # a listed one has its own report
                what = f"its image_id {entries[i].get('image_id')!r} is no image of the file"
                self._report(place_of(entries, i), what, "Correct it, or drop the annotation.")
        for i in np.flatnonzero(usable & (columns.labels == _UNKNOWN)).tolist():
            what = f"its category_id {entries[i].get('category_id')!r} has no name in categories"
            self._report(place_of(entries, i), what, "Name the category, or drop the annotation.")
        usable &= columns.labels >= 0
        for i in np.flatnonzero(_duplicated(columns.ids) & usable).tolist():
            self._report(
                place_of(entries, i), "the id occurs twice", "Give each annotation an id of its own."
            )
            usable[i] = False
        sizes = np.array([(image["height"], image["width"]) for image in images]).reshape(-1, 2)
        x1, y1, x2, y2 = columns.boxes.T
        height, width = sizes[columns.images].T if len(images) else np.zeros((2, len(entries)))
        with np.errstate(invalid="ignore"):
            inside = (
                np.isfinite(columns.boxes).all(axis=1) & (x1 < width) & (y1 < height) & (x2 > 0) & (y2 > 0)
            )
            # The image's own border may cut a box, but only a degenerate one is empty inside it.
            tiny = (x2 - x1 < 1) | (y2 - y1 < 1) | (columns.areas <= 0)
        for i in np.flatnonzero(usable & ~inside & ~tiny).tolist():
            size = tuple(sizes[columns.images[i]].tolist())
            given = entries[i].get("bbox")
            what = f"its bbox {given} {box_problem(tuple(columns.boxes[i].tolist()), size)}"
            image = f"{place_of(entries, i)} of image {images[columns.images[i]]['id']}"
            self._report(image, what, "Correct it ([x, y, width, height] in pixels), or drop the annotation.")
        usable &= inside | tiny
        for i in np.flatnonzero(usable & tiny).tolist():
            what = f"its bbox {entries[i].get('bbox')} is less than a pixel wide or high"
            self._report(place_of(entries, i), what, "It is not learnt.", dropped=True)
        return columns.at(np.flatnonzero(usable & ~tiny & ~columns.left_out)), usable

    def _table(self, images: list[Record], columns: _Columns, *, with_mask: bool) -> Table:
        columns = columns.at(np.argsort(columns.images, kind="stable"))
        ignored = columns.crowds
        segmentations = Segmentations() if with_mask else None
        if segmentations is not None:
            for i, entry in enumerate(columns.entries):
                image = images[int(columns.images[i])]
                problem = segmentations.append(entry.get("segmentation"), (image["height"], image["width"]))
                where = f"annotation {entry.get('id')} of image {image['id']}"
                if problem:
                    self._report(where, problem, "Correct it.")
                elif segmentations.is_empty(i):
                    what = "its segmentation has no polygon of three points"
                    self._report(where, what, "The object is ignored.", dropped=True)
                ignored[i] |= segmentations.is_empty(i)
        return Table.of(
            image_ids=self.image_ids,
            paths=[image["path"] for image in images],
            sizes=np.array([(i["height"], i["width"]) for i in images], dtype=np.int64),
            images=columns.images,
            boxes=columns.boxes,
            labels=columns.labels,
            ignored=ignored,
            segmentations=segmentations,
        )


_UNKNOWN = -2


@frozen(eq=False)
class _Columns:
    """The annotations of a file as arrays, one item an annotation."""

    entries: list[Record]
    ids: list[object]
    images: NDArray[np.int64]
    """The index of the image, -1 for none."""
    labels: NDArray[np.int64]
    """-1 for a category that is not learnt, -2 for none."""
    boxes: NDArray[np.float64]
    """xyxy; NaN where there are no four numbers."""
    areas: NDArray[np.float64]
    crowds: NDArray[np.bool_]
    left_out: NDArray[np.bool_]

    @classmethod
    def of(cls, entries: list[Record], image_of: dict[int | str, int], label_of: dict[int, int]) -> _Columns:
        boxes = np.array([four_numbers(a.get("bbox")) for a in entries], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return cls(
            entries=entries,
            ids=[a.get("id") for a in entries],
            images=np.array([image_of.get(identifier(a, "image_id"), -1) for a in entries], dtype=np.int64),
            labels=np.array(
                [label_of.get(identifier(a, "category_id"), _UNKNOWN) for a in entries], dtype=np.int64
            ),
            boxes=boxes,
            areas=np.array([_area(a.get("area")) for a in entries], dtype=np.float64),
            crowds=np.array([bool(a.get("iscrowd")) for a in entries], dtype=bool),
            left_out=np.array([bool(a.get("ignore")) for a in entries], dtype=bool),
        )

    def at(self, rows: NDArray[np.int64]) -> _Columns:
        return _Columns(
            [self.entries[i] for i in rows],
            [self.ids[i] for i in rows],
            self.images[rows],
            self.labels[rows],
            self.boxes[rows],
            self.areas[rows],
            self.crowds[rows],
            self.left_out[rows],
        )


def _area(value: object) -> float:
    """The area, which some writers leave out."""
    return float(value) if isinstance(value, int | float) else 1.0


def _problem_of_image(image: Record, name: object) -> str:
    from detcfg.data.images import problem_of_name

    size = problem_of_size(image.get("height"), image.get("width"))
    return size or problem_of_name(name)


def _duplicated(ids: list[object]) -> NDArray[np.bool_]:
    """Which ids occurred before."""
    seen: set[object] = set()
    repeated = np.zeros(len(ids), dtype=bool)
    for i, number in enumerate(ids):
        if type(number) is int:
            repeated[i] = number in seen
            seen.add(number)
    return repeated
