"""Data in YOLO's format: a `data.yaml`, and a text file an image with a row an object."""

from __future__ import annotations

import math
import os
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
from attrs import field, frozen

from detcfg.config import did_you_mean
from detcfg.data.classes import COCO_CLASSES
from detcfg.data.errors import DataError, LeftOut, Problem
from detcfg.data.files import FileDataset, FileDatasetConfig, Table, box_problem
from detcfg.data.masks import Segmentations
from detcfg.data.reading import MAX_NUMBER, read_text

_SLACK: Final = 0.01
"""What a fraction may exceed 1 by, for tools round; beyond it, it is in pixels."""


@frozen(kw_only=True)
class YOLODatasetConfig(FileDatasetConfig):
    """Images that a `data.yaml` names, as Ultralytics and Roboflow write it (docs.ultralytics.com/datasets/detect).

    The rows of `labels/NAME.txt` belong to `images/NAME.jpg`: `class x y width height`, or `class x1 y1 x2 y2 x3 y3 ...`
    for a polygon, whose box is the least around it; all in fractions of the image, whose edges are at 0 and 1, as EXIF
    turns it. An image whose file of labels is missing or empty is background. Rows without width or height, and rows
    that are there twice, are left out, with a report.
    """

    data_root: str = "data/coco128"
    """The folder of `ann_file`."""
    ann_file: str = "data.yaml"
    """The yaml file, seen from `data_root`. Its `path` is seen from its own folder."""
    split: Literal["train", "val", "test"] = "train"
    """Which of its entries: folders of images, searched with their sub-folders, or text files with one image a line."""
    classes: tuple[str, ...] = COCO_CLASSES
    """The names to learn, in the order of the labels. The file may hold more: their objects are left out."""

    def dataset(self, *, with_mask: bool = False) -> FileDataset:
        config = self.resolved()
        reader = _Reader(config, with_mask=with_mask)
        return FileDataset(
            config,
            reader.file,
            reader.table(),
            reader.problems,
            reader.truth,
            left_out=reader.left_out(),
        )


@frozen(eq=False)
class _Object:
    label: int
    box: tuple[float, float, float, float]
    polygon: list[float] | None
    """x and y in turn, in pixels."""
    where: str
    """Its file and line."""


@frozen(eq=False)
class _Annotated:
    """One image with its objects."""

    name: str
    path: str
    size: tuple[int, int]
    objects: list[_Object] = field(factory=list[_Object])


class _Reader:
    """One pass over the text files: what is usable becomes a `Table`, what is not a list of problems."""

    def __init__(self, config: YOLODatasetConfig, *, with_mask: bool) -> None:
        self.config, self.with_mask = config, with_mask
        self.file = str(Path(config.data_root, config.ann_file))
        self.folder = Path(self.file).parent
        self.problems: list[Problem] = []
        self._dropped: dict[str, list[str]] = {}
        self._other_names: Counter[str] = Counter()
        self.data = self._yaml()
        self.names = self._names()
        self.label_of = self._labels()
        self.root = self._root()
        self.images = self._read()
        self.segmentations, self.ignored = self._masks()

    def table(self) -> Table:
        """All usable images and objects."""
        objects = [thing for image in self.images for thing in image.objects]
        return Table.of(
            image_ids=[image.name for image in self.images],
            paths=[image.path for image in self.images],
            sizes=np.array([image.size for image in self.images], dtype=np.int64),
            images=np.repeat(np.arange(len(self.images)), [len(image.objects) for image in self.images]),
            boxes=np.array([thing.box for thing in objects], dtype=np.float64),
            labels=np.array([thing.label for thing in objects], dtype=np.int64),
            ignored=np.array(self.ignored, dtype=bool),
            segmentations=self.segmentations,
        )

    def left_out(self) -> list[LeftOut]:
        """The objects that are ignored or dropped, by reason."""
        found = [
            LeftOut(
                reason=reason,
                count=len(places),
                example=places[0],
                remedy=_REMEDIES[reason],
                ignored=reason == _NO_MASK,
            )
            for reason, places in self._dropped.items()
        ]
        if self._other_names:
            names = ", ".join(f"{name!r} ({count:,})" for name, count in self._other_names.most_common(3))
            remedy = "Add their names to the dataset's classes, if they are to be learned."
            total = self._other_names.total()
            found.append(
                LeftOut(reason="of other classes", count=total, example=names, remedy=remedy, suspect=True)
            )
        return found

    def truth(self) -> dict[str, Any]:
        """The objects in COCO's format, for evaluation."""
        images = [
            {"id": image.name, "file_name": image.path, "height": image.size[0], "width": image.size[1]}
            for image in self.images
        ]
        owned = [(image.name, thing) for image in self.images for thing in image.objects]
        annotations: list[dict[str, Any]] = []
        for number, ((name, thing), ignored) in enumerate(zip(owned, self.ignored, strict=True), start=1):
            x1, y1, x2, y2 = thing.box
            entry: dict[str, Any] = {
                "id": number,
                "image_id": name,
                "category_id": thing.label + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": int(ignored),
            }
            if thing.polygon is not None:
                entry |= {"segmentation": [thing.polygon], "area": _area(thing.polygon)}
            annotations.append(entry)
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(self.config.classes)]
        return {"images": images, "annotations": annotations, "categories": categories}

    def _yaml(self) -> dict[str, Any]:
        text = read_text(self.file, "Correct data_root and ann_file.")
        yaml: Any = import_module("yaml")
        try:
            data: object = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise DataError(f"{self.file}: this is not yaml: {error}. Correct it.") from None
        if not isinstance(data, dict) or not {"names", "nc"} & cast("dict[str, Any]", data).keys():
            raise DataError(f"{self.file}: it has no names, so it is no data.yaml of YOLO. Correct ann_file.")
        return cast("dict[str, Any]", data)

    def _names(self) -> dict[int, str]:
        """The name of each class number, from a list or a map."""
        given: object = self.data.get("names")
        if given is None and type(count := self.data["nc"]) is int:
            return {number: f"class{number}" for number in range(min(count, 100_000))}
        items: list[tuple[object, object]] = []
        if isinstance(given, list):
            items = list(enumerate(cast("list[object]", given)))
        elif isinstance(given, dict):
            items = list(cast("dict[object, object]", given).items())
        names: dict[int, str] = {}
        for key, name in items:
            number = int(key) if isinstance(key, int | str) and str(key).isdecimal() else -1
            if number < 0 or isinstance(name, bool) or not isinstance(name, str | int | float):
                raise DataError(
                    f"{self.file}: names has {name!r} for the class {key!r}. Write a number from 0 on and a name, in "
                    "quotes if it is a word that yaml takes for a value (yes, no, null)."
                )
            names[number] = str(name)
        if not names:
            raise DataError(f"{self.file}: names is neither a list nor a map of names. Correct it.")
        return names

    def _labels(self) -> dict[int, int]:
        """The label of each class number that is learnt."""
        label_of = {name: label for label, name in enumerate(self.config.classes)}
        if missing := [name for name in self.config.classes if name not in self.names.values()]:
            raise DataError(
                f"{self.file}: classes names {missing[0]!r}, which is no name of the file. "
                f"{did_you_mean(missing[0], self.names.values())} Set the dataset's classes to names of the file."
            )
        return {number: label_of[name] for number, name in self.names.items() if name in label_of}

    def _root(self) -> Path:
        """The folder that the splits are seen from: `path`, if there is such a folder, or that of the yaml."""
        given: object = self.data.get("path")
        if not isinstance(given, str) or "\0" in given:
            return self.folder
        # Ultralytics looks into its own folder of datasets, beside which a project's often lies.
        tried = (self.folder / given, Path(given), self.folder.parent / given)
        return next((path for path in tried if given and os.path.isdir(path)), self.folder)  # noqa: PTH112

    def _sources(self) -> list[Path]:
        """The folders and text files of the split."""
        split = self.config.split
        given: object = self.data.get(split)
        if given is None and split == "val":
            given = self.data.get("validation")
        entries = cast("list[object]", given if isinstance(given, list) else [given])
        if not entries or not all(
            isinstance(entry, str) and entry and "\0" not in entry for entry in entries
        ):
            has = ", ".join(key for key in ("train", "val", "test") if self.data.get(key)) or "none"
            raise DataError(
                f"{self.file}: its {split} is {given!r}, which names no folder of images. Of train, val and test it has "
                f"{has}: set split to one of these, or add the folder."
            )
        sources: list[Path] = []
        for entry in cast("list[str]", entries):
            # Roboflow writes ../train/images for what lies beside the file.
            tried = (self.root / entry, self.root / entry.removeprefix("../"), self.folder / entry)
            found = next((path for path in tried if os.path.exists(path)), None)  # noqa: PTH110
            if found is None:
                raise DataError(
                    f"{self.file}: its {split} names {entry!r}, and there is no {tried[0]}. Correct it, or its path."
                )
            sources.append(found)
        return sources

    def _read(self) -> list[_Annotated]:
        images: dict[str, _Annotated] = {}
        missing = 0
        for source in self._sources():
            for path, where in self._listed(source) if source.is_file() else _inside(source):
                name = _name(path, self.root)
                if name in images:
                    self._report(where, "the image is listed twice", "Drop one of them.")
                    continue
                if (size := self._size(path)) is None:
                    continue
                images[name] = image = _Annotated(name, str(path), size)
                labels = labels_of(path)
                if labels.is_file():
                    self._read_rows(labels, image)
                else:
                    missing += 1
        if missing and missing == len(images):
            path = labels_of(Path(next(iter(images.values())).path))
            what = f"none of its {missing:,} images has a file of labels, as {path} would be"
            self._report(self.file, what, "All are taken for background.", "note")
        return list(images.values())

    def _listed(self, file: Path) -> list[tuple[Path, str]]:
        """The images of a text file that lie in the dataset, each with its line."""
        found: list[tuple[Path, str]] = []
        inside = [Path(os.path.realpath(folder)) for folder in (self.root, self.folder, file.parent)]
        for number, line in enumerate(read_text(file, "Correct the yaml file.").splitlines(), start=1):
            if not (text := line.strip()):
                continue
            where = f"{file}: line {number}"
            tried = (file.parent / text, self.root / text)
            path = next((path for path in tried if "\0" not in text and path.is_file()), tried[0])
            plain = Path(os.path.normpath(path))
            if "\0" in text or not any(
                Path(os.path.realpath(plain.parent), plain.name).is_relative_to(f) for f in inside
            ):
                what = f"{text!r} lies outside of the dataset's folder"
                self._report(where, what, "Write paths as they are seen from it.")
                continue
            found.append((plain, where))
        return found

    def _size(self, path: Path) -> tuple[int, int] | None:
        from detcfg.data.images import image_size

        config = self.config
        try:
            return image_size(
                str(path), ignore_orientation=config.ignore_orientation, max_pixels=config.max_pixels
            )
        except DataError as error:
            what, _, remedy = str(error).removeprefix(f"{path}: ").rstrip(".").rpartition(". ")
            self._report(str(path), what or remedy, f"{remedy}." if what else "")
            return None

    def _read_rows(self, file: Path, image: _Annotated) -> None:
        try:
            lines = read_text(file, "Write it as UTF-8 text.").splitlines()
        except DataError as error:
            self._report(str(file), str(error).removeprefix(f"{file}: ").rstrip("."), "")
            return
        seen: set[tuple[float, ...]] = set()
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{file}: line {number}"
            values = _numbers(line)
            if problem := self._problem(values, line):
                self._report(where, problem, _ROW)
            elif tuple(values) in seen:
                self._drop(where, _TWICE)
            elif int(values[0]) not in self.label_of:
                self._other_names[self.names[int(values[0])]] += 1
            else:
                seen.add(tuple(values))
                self._add(values, image, where)

    def _problem(self, values: list[float], line: str) -> str:
        """Why a row is no object; empty if it is one."""
        count = len(values)
        shown = line.strip() if len(line) <= 60 else f"{line.strip()[:56]} ..."
        if not all(math.isfinite(value) for value in values):
            return f"the row {shown!r} has something that is no number"
        if count != 5 and (count < 7 or count % 2 == 0):
            return f"the row {shown!r} has {count} numbers, and a box has 5, a polygon 7, 9, 11 ..."
        if not values[0].is_integer() or int(values[0]) not in self.names:
            return f"its class is {values[0]:g}, and names goes from {min(self.names)} to {max(self.names)}"
        if min(values[1:]) < -_SLACK or max(values[1:]) > 1 + _SLACK:
            return f"the row {shown!r} is not in fractions of the image, which lie between 0 and 1"
        return ""

    def _add(self, values: list[float], image: _Annotated, where: str) -> None:
        height, width = image.size
        polygon: list[float] | None = None
        if len(values) == 5:
            x, y, w, h = values[1:]
            corners = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        else:
            xs, ys = values[1::2], values[2::2]
            corners = (min(xs), min(ys), max(xs), max(ys))
            polygon = [number for x, y in zip(xs, ys, strict=True) for number in (x * width, y * height)]
        x1, y1, x2, y2 = corners[0] * width, corners[1] * height, corners[2] * width, corners[3] * height
        if x2 <= x1 or y2 <= y1:
            self._drop(where, _FLAT)
            return
        if problem := box_problem((x1, y1, x2, y2), image.size):
            self._report(where, f"its box {problem}", "Correct the box, or drop the row.")
            return
        label = self.label_of[int(values[0])]
        image.objects.append(_Object(label, (x1, y1, x2, y2), polygon, where))

    def _masks(self) -> tuple[Segmentations | None, list[bool]]:
        """The masks, if they are wanted, and which objects are ignored for having none."""
        owned = [(image.size, thing) for image in self.images for thing in image.objects]
        if not self.with_mask:
            return None, [False] * len(owned)
        if owned and all(thing.polygon is None for _, thing in owned):
            what = f"with_mask is true, and all of its {len(owned):,} objects are boxes"
            self._report(self.file, what, "Set with_mask to false, or export polygons.")
        segmentations = Segmentations()
        for size, thing in owned:
            segmentations.append(None if thing.polygon is None else [thing.polygon], size)
        sizes = np.array([size for size, _ in owned], dtype=np.int64).reshape(-1, 2)
        empty = [bool(e) for e in segmentations.are_empty(sizes)]
        for e, (_, thing) in zip(empty, owned, strict=True):
            if e:
                self._drop(thing.where, _NO_MASK, report=False)
        return segmentations, empty

    def _drop(self, where: str, reason: str, *, report: bool = True) -> None:
        self._dropped.setdefault(reason, []).append(where)
        if report:
            self._report(where, f"the row is {reason}", "It is not learnt.", "dropped")

    def _report(
        self, file: str, what: str, remedy: str, severity: Literal["error", "dropped", "note"] = "error"
    ) -> None:
        self.problems.append(Problem(file=file, what=what, remedy=remedy, severity=severity))


_ROW: Final = "Write `class x y width height`, or a polygon, in fractions of the image; or drop the row."
_FLAT: Final = "without width or height"
_TWICE: Final = "there twice"
_NO_MASK: Final = "without a mask"
_REMEDIES: Final = {_FLAT: "Correct the boxes.", _TWICE: "Drop one of them.", _NO_MASK: "Export polygons."}


def labels_of(image: Path) -> Path:
    """The file of an image's labels: in `labels` in place of the last folder `images` of its path, or beside it."""
    folders = list(image.parent.parts)
    if "images" in folders:
        folders[len(folders) - 1 - folders[::-1].index("images")] = "labels"
    return Path(*folders, f"{image.stem}.txt")


def _inside(folder: Path) -> list[tuple[Path, str]]:
    """The images of a folder and its sub-folders, by name."""
    from detcfg.data.images import SUFFIXES

    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return [(path, str(path)) for path in found]


def _name(path: Path, root: Path) -> str:
    """An image's path as it is seen from the root, where it lies in there."""
    path, root = Path(os.path.abspath(path)), Path(os.path.abspath(root))  # noqa: PTH100 - resolve() follows links
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def _numbers(line: str) -> list[float]:
    """The numbers of a row; NaN for what is none."""
    values: list[float] = []
    for word in line.split():
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        values.append(value if abs(value) < MAX_NUMBER else math.nan)
    return values


def _area(polygon: list[float]) -> float:
    """The area inside a polygon (shoelace formula)."""
    points = np.array(polygon).reshape(-1, 2)
    following = np.roll(points, -1, axis=0)
    return float(abs((points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]).sum()) / 2)
