"""Data in COCO's json format."""

from __future__ import annotations

from os.path import isdir
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from detcfg.config import did_you_mean
from detcfg.data.classes import COCO_CLASSES
from detcfg.data.errors import FRACTIONS, DataError, LeftOut, Problem
from detcfg.data.files import FileDataset, FileDatasetConfig, Table, box_problem
from detcfg.data.masks import Segmentations
from detcfg.data.reading import (
    PANOPTIC,
    category_of_name,
    files_in,
    flag,
    four_numbers,
    identifier,
    is_absent,
    is_panoptic,
    other_type,
    place_of,
    problem_of_size,
    read_json,
    records,
    whole_number,
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
        return FileDataset(
            config,
            reader.file,
            reader.table,
            reader.problems,
            reader.truth,
            left_out=reader.left_out,
        )


class _Reader:
    """One pass over the json: what is usable becomes a `Table`, what is not a list of problems."""

    def __init__(self, config: CocoDatasetConfig, *, with_mask: bool) -> None:
        self.config = config
        self.file = str(Path(config.data_root, config.ann_file))
        self.problems: list[Problem] = []
        self.left_out: list[LeftOut] = []
        data = self._data()
        self.label_of, self.categories = self._categories(data)
        images = self._images(data)
        self.image_ids = [image["id"] for image in images]
        annotations, self.usable = self._annotations(data, images)
        self.table = self._table(images, annotations, with_mask=with_mask)
        self._report_files_listed_twice()

    def truth(self) -> Record:
        """The file's own annotations of the usable images and the classes, for evaluation.

        They are read again rather than kept, which would double the memory of a training run.
        """
        data = self._data()
        sizes = dict(zip(self.image_ids, self.table.sizes.tolist(), strict=True))
        images = [image for image in records(data, "images") if identifier(image) in sizes]
        for image in images:
            if problem_of_size(image.get("height"), image.get("width")):
                image["height"], image["width"] = sizes[identifier(image)]
        annotations = records(data, "annotations")
        return {
            "images": images,
            "annotations": [
                # COCO has no difficult objects; what other tools write there does not count.
                {**a, "difficult": 0} if "difficult" in a else a
                for a, usable in zip(annotations, self.usable, strict=True)
                if usable
            ],
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
        data = cast("Record", data)
        if is_panoptic(data):
            raise DataError(f"{self.file}: {PANOPTIC}")
        return data

    def _report(
        self, where: str, what: str, remedy: str, severity: Literal["error", "dropped", "note"] = "error"
    ) -> None:
        self.problems.append(
            Problem(file=self.file, where=where, what=what, remedy=remedy, severity=severity)
        )

    def _leave_out(
        self,
        rows: list[int],
        entries: list[Record],
        reason: str,
        remedy: str,
        *,
        ignored: bool = False,
        suspect: bool = False,
    ) -> None:
        """Count annotations that are left out for one reason."""
        if rows:
            group = LeftOut(
                reason=reason,
                count=len(rows),
                example=place_of(entries, rows[0]),
                remedy=remedy,
                ignored=ignored,
                suspect=suspect,
            )
            self.left_out.append(group)

    def _categories(self, data: Record) -> tuple[dict[int, int], list[Record]]:
        """The label of each category id, -1 for one of no class; and the categories of the classes, by label."""
        by_name: dict[str, dict[int, Record]] = {}
        refused: dict[object, Problem] = {}
        for position, category in enumerate(records(data, "categories")):
            number, name = whole_number(category.get("id")), category.get("name")
            if number is None or not isinstance(name, str):
                given = category.get("id")
                what, remedy = f"it is {category!r}, which has no id and name", "Name it."
                if isinstance(given, str):
                    what, remedy = f"its id is the text {given!r}", "Write it as a number, without quotes."
                self._report(f"category {position if given is None else given}", what, remedy)
                refused[repr(name)] = self.problems[-1]
                continue
            by_name.setdefault(name, {})[number] = category
        for name in self.config.classes:
            if name not in by_name:
                if repr(name) in refused:
                    raise DataError(str(refused[repr(name)]))
                raise DataError(
                    f"{self.file}: classes names {name!r}, which is no category of the file. "
                    f"{did_you_mean(name, by_name)} Set the dataset's classes to names of the file."
                )
        label_of = {number: -1 for categories in by_name.values() for number in categories}
        kept: list[Record] = []
        for label, name in enumerate(self.config.classes):
            number = self._of_one_name(data, name, by_name[name])
            label_of[number] = label
            # The frequency is LVIS's.
            kept.append({k: v for k, v in by_name[name][number].items() if k in ("id", "name", "frequency")})
        return label_of, kept

    def _of_one_name(self, data: Record, name: str, categories: dict[int, Record]) -> int:
        """The category of a name; others of the name, without objects, are passed over."""
        if (number := category_of_name(data, categories)) is None:
            first, second, *_ = categories
            raise DataError(
                f"{self.file}: categories {first} and {second} are both called {name!r}. "
                "Give them different names."
            )
        for other in categories.keys() - {number}:
            what = f"it is called {name!r} like category {number}, and has no objects"
            self._report(f"category {other}", what, "It is passed over.", "note")
        return number

    def _images(self, data: Record) -> list[Record]:
        from detcfg.data.images import problem_of_name, seen_from

        root = Path(self.config.data_root, self.config.img_prefix)
        folder = _Folder(root)
        seen: set[int | str] = set()
        usable: list[Record] = []
        for position, image in enumerate(records(data, "images")):
            number, name = identifier(image), seen_from(root, self.config.file_name(image))
            where = f"image {position} of the list" if number is None else f"image {number}"
            if number is None:
                self._report(where, "it has no id", "Give it one.")
            elif number in seen:
                self._report(where, "the id occurs twice", "Give each image an id of its own.")
            elif problem := problem_of_name(name):
                self._report(where, problem, folder.remedy(name))
            elif (path := folder.find(cast("str", name))) is None:
                self._report(where, f"there is no {root / str(name)}", "Put it there, or drop the entry.")
            else:
                size = self._size(image, path)
                if isinstance(size, str):
                    self._report(where, size, "Correct the entry.")
                    continue
                seen.add(number)
                usable.append({"id": number, "path": path, "height": size[0], "width": size[1]})
        return usable

    def _size(self, image: Record, path: str) -> tuple[int, int] | str:
        """(height, width) of an image, of its file where the entry does not say; or what is wrong with it."""
        height, width = image.get("height"), image.get("width")
        if is_absent(height) or is_absent(width):
            from detcfg.data.images import image_size

            try:
                return image_size(
                    path, ignore_orientation=self.config.ignore_orientation, max_pixels=self.config.max_pixels
                )
            except DataError as error:
                return f"it has no height and width, and its file does not say: {str(error).rstrip('.')}"
        return problem_of_size(height, width) or (int(cast("float", height)), int(cast("float", width)))

    def _annotations(self, data: Record, images: list[Record]) -> tuple[_Columns, NDArray[np.bool_]]:
        """The columns of the objects to learn, which annotations of the file evaluation may use."""
        entries = records(data, "annotations")
        image_of = {image["id"]: i for i, image in enumerate(images)}
        columns = _Columns.of(entries, image_of, self.label_of)
        usable = columns.images >= 0
        self._check_ids(data, entries, columns, usable)
        others = np.flatnonzero(usable & (columns.labels == -1)).tolist()
        self._leave_out(others, entries, "of other classes", "Add their names to the dataset's classes.")
        usable &= columns.labels >= 0
        for i in np.flatnonzero(_duplicated(columns.ids) & usable).tolist():
            self._report(
                place_of(entries, i), "the id occurs twice", "Give each annotation an id of its own."
            )
            usable[i] = False
        for name in ("iscrowd", "ignore"):
            for i in np.flatnonzero(usable & columns.no_flags[name]).tolist():
                what = f"its {name} is {entries[i].get(name)!r}, which is no flag"
                self._report(place_of(entries, i), what, "It is taken for 0: write 0 or 1.", "note")
        sizes = np.array([(image["height"], image["width"]) for image in images]).reshape(-1, 2)
        x1, y1, x2, y2 = columns.boxes.T
        height, width = sizes[columns.images].T if len(images) else np.zeros((2, len(entries)))
        with np.errstate(invalid="ignore"):
            inside = (
                np.isfinite(columns.boxes).all(axis=1) & (x1 < width) & (y1 < height) & (x2 > 0) & (y2 > 0)
            )
            # The image's own border may cut a box, but only a degenerate one is empty inside it.
            tiny = (x2 - x1 < 1) | (y2 - y1 < 1)
            in_one = (columns.boxes[:, :2] >= 0) & (columns.boxes[:, :2] <= 1)
            sides = columns.boxes[:, 2:] - columns.boxes[:, :2]
            fractions = tiny & (in_one & (sides > 0) & (sides <= 1)).all(axis=1)
            no_area = ~tiny & (columns.areas <= 0)
        for i in np.flatnonzero(usable & ~inside & ~tiny & ~no_area).tolist():
            size = tuple(sizes[columns.images[i]].tolist())
            given = entries[i].get("bbox")
            what = f"its bbox {given} {box_problem(tuple(columns.boxes[i].tolist()), size)}"
            image = f"{place_of(entries, i)} of image {images[columns.images[i]]['id']}"
            self._report(image, what, "Correct it ([x, y, width, height] in pixels), or drop the annotation.")
        usable &= inside | tiny | no_area
        for i in np.flatnonzero(usable & tiny).tolist():
            what = f"its bbox {entries[i].get('bbox')} is less than a pixel wide or high"
            self._report(place_of(entries, i), what, "It is not learnt.", "dropped")
        for i in np.flatnonzero(usable & no_area).tolist():
            what = f"its area is {entries[i].get('area')}, though its bbox {entries[i].get('bbox')} is sound"
            self._report(place_of(entries, i), what, "It is not learnt.", "dropped")
        for rows, reason, remedy in (
            (
                tiny & ~fractions,
                "less than a pixel wide or high",
                "Write boxes as [x, y, width, height] in pixels.",
            ),
            (tiny & fractions, FRACTIONS, _FRACTIONS),
            (no_area, "with an area of 0 or less", "Correct the area, or leave it out."),
            (columns.ignore & ~tiny & ~no_area, "marked by ignore", "Set ignore to 0."),
        ):
            self._leave_out(
                np.flatnonzero(usable & rows).tolist(), entries, reason, remedy, suspect=reason == FRACTIONS
            )
        return columns.at(np.flatnonzero(usable & ~tiny & ~no_area & ~columns.ignore)), usable

    def _check_ids(
        self, data: Record, entries: list[Record], columns: _Columns, usable: NDArray[np.bool_]
    ) -> None:
        """Report annotations of no image and of no category."""
        listed = {identifier(image) for image in records(data, "images")}
        for i in np.flatnonzero(~usable).tolist():
            given = entries[i].get("image_id")
            if identifier(entries[i], "image_id") not in listed:  # a listed one has its own report
                end = other_type(given, listed) or f"{given!r} is no image of the file"
                self._report(
                    place_of(entries, i), f"its image_id {end}", "Correct it, or drop the annotation."
                )
        for i in np.flatnonzero(usable & (columns.labels == _UNKNOWN)).tolist():
            given = entries[i].get("category_id")
            end, remedy = f"{given!r} has no name in categories", "Name the category, or drop the annotation."
            if other := other_type(given, self.label_of.keys()):
                end, remedy = other, "Correct it."
            self._report(place_of(entries, i), f"its category_id {end}", remedy)

    def _table(self, images: list[Record], columns: _Columns, *, with_mask: bool) -> Table:
        columns = columns.at(np.argsort(columns.images, kind="stable"))
        sizes = np.array([(i["height"], i["width"]) for i in images], dtype=np.int64).reshape(-1, 2)
        crowds = np.flatnonzero(columns.crowds).tolist()
        self._leave_out(crowds, columns.entries, "crowd", _CROWDS, ignored=True)
        segmentations = self._segmentations(columns, sizes) if with_mask else None
        return Table.of(
            image_ids=self.image_ids,
            paths=[image["path"] for image in images],
            sizes=sizes,
            images=columns.images,
            boxes=columns.boxes,
            labels=columns.labels,
            ignored=columns.crowds,
            segmentations=segmentations,
        )

    def _segmentations(self, columns: _Columns, sizes: NDArray[np.int64]) -> Segmentations:
        """The objects' masks; those that have none become ignored objects."""
        segmentations, faulty = Segmentations(), np.zeros(len(columns.entries), dtype=bool)
        none_at_all = not any(entry.get("segmentation") for entry in columns.entries)
        if none_at_all and columns.entries:
            what = f"with_mask is true, and none of its {len(columns.entries):,} objects has a mask (segmentation)"
            self._report("", what, "Set with_mask to false for a model without masks, or export masks.")
        places = [self.image_ids[row] for row in columns.images.tolist()]
        for i, entry in enumerate(columns.entries):
            height, width = sizes[columns.images[i]].tolist()
            problem = segmentations.append(entry.get("segmentation"), (height, width))
            if problem and not none_at_all:
                faulty[i] = True
                self._report(f"annotation {entry.get('id')} of image {places[i]}", problem, "Correct it.")
        absent, empty = segmentations.are_absent(), segmentations.are_empty(sizes[columns.images])
        if not none_at_all:
            for i in np.flatnonzero(empty & ~faulty).tolist():
                where = f"annotation {columns.entries[i].get('id')} of image {places[i]}"
                what = "its segmentation has no polygon of three points" if absent[i] else _NO_PIXEL
                self._report(where, what, "The object is ignored.", "dropped")
        rows = np.flatnonzero(empty & ~columns.crowds).tolist()
        self._leave_out(rows, columns.entries, "without a mask", "Export masks.", ignored=True)
        columns.crowds[empty] = True
        return segmentations

    def _report_files_listed_twice(self) -> None:
        """Several entries of one file: two people may have labelled it."""
        if len(set(self.table.paths)) == len(self.table.paths):
            return
        rows: dict[str, list[int]] = {}
        for row, path in enumerate(self.table.paths):
            rows.setdefault(path, []).append(row)
        for path, same in rows.items():
            if len(same) == 1:
                continue
            differ = len({self._objects_of(row) for row in same}) > 1
            where = f"images {' and '.join(str(self.image_ids[row]) for row in same)}"
            what, remedy = f"they are one file, {path}", "It counts as several images."
            if differ:
                what += ", with different objects"
                remedy = "Keep one of them; Label Studio writes one for each person that labelled the image."
            self._report(where, what, remedy, "note")

    def _objects_of(self, row: int) -> bytes:
        """What tells the objects of images apart."""
        objects = slice(self.table.ends[row], self.table.ends[row + 1])
        columns = (
            self.table.labels[objects, None],
            self.table.ignored[objects, None],
            self.table.boxes[objects],
        )
        return np.unique(np.hstack(columns), axis=0).tobytes()


class _Folder:
    """The image folder and its sub-folders, each listed once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.listed = {"": files_in(root, "Correct data_root and img_prefix, or put the images there.")}

    def find(self, name: str) -> str | None:
        """The file of a name as seen from the folder.

        Where there is none, a backslash stands for a slash: so tools write it on Windows.
        """
        for written in dict.fromkeys((name, name.replace("\\", "/"))):
            folder, _, base = written.rpartition("/")
            if folder not in self.listed:
                path = self.root / PurePosixPath(folder)
                # Path.is_dir fails on a name that is too long.
                self.listed[folder] = files_in(path, "") if isdir(path) else {}  # noqa: PTH112
            if base in self.listed[folder]:
                return self.listed[folder][base]
        return None

    def remedy(self, name: object) -> str:
        """What to do about a name that may not be used."""
        base = PureWindowsPath(name).name if isinstance(name, str) else ""  # takes both kinds of slash
        if base in self.listed[""]:
            return f"Write it as seen from {self.root}, which has a {base}: {base!r}."
        return "Correct the entry."


_FRACTIONS = (
    "Multiply x and width by the image's width, y and height by its height: COCO's boxes are "
    "[x, y, width, height] in pixels from the left upper corner."
)
_CROWDS = "Write iscrowd 0 for single objects: CVAT and Datumaro write 1 for every mask that is a bitmap; export polygons."
_NO_PIXEL = "its segmentation covers no pixel of the image"
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
    ignore: NDArray[np.bool_]
    no_flags: dict[str, NDArray[np.bool_]]
    """Of `iscrowd` and `ignore`: whether what is written there is none."""

    @classmethod
    def of(cls, entries: list[Record], image_of: dict[int | str, int], label_of: dict[int, int]) -> _Columns:
        boxes = np.array([four_numbers(a.get("bbox")) for a in entries], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        flags = {name: [flag(a.get(name)) for a in entries] for name in ("iscrowd", "ignore")}
        no_flags = {name: np.array([f is None for f in found], dtype=bool) for name, found in flags.items()}
        return cls(
            entries=entries,
            ids=[a.get("id") for a in entries],
            images=np.array([image_of.get(identifier(a, "image_id"), -1) for a in entries], dtype=np.int64),
            labels=np.array(
                [label_of.get(identifier(a, "category_id"), _UNKNOWN) for a in entries], dtype=np.int64
            ),
            boxes=boxes,
            areas=np.array([_area(a.get("area")) for a in entries], dtype=np.float64),
            crowds=np.array(flags["iscrowd"], dtype=bool),
            ignore=np.array(flags["ignore"], dtype=bool),
            no_flags=no_flags,
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
            self.ignore[rows],
            {name: values[rows] for name, values in self.no_flags.items()},
        )


def _area(value: object) -> float:
    """The area, which some writers leave out."""
    return float(value) if isinstance(value, int | float) else 1.0


def _duplicated(ids: list[object]) -> NDArray[np.bool_]:
    """Which ids occurred before."""
    seen: set[object] = set()
    repeated = np.zeros(len(ids), dtype=bool)
    for i, number in enumerate(ids):
        if (number := whole_number(number)) is not None:
            repeated[i] = number in seen
            seen.add(number)
    return repeated
