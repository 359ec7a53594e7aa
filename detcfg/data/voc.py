"""Data in Pascal VOC's format: one XML file an image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from xml.etree import ElementTree as ET

import numpy as np
from attrs import frozen

from detcfg.data.classes import VOC_CLASSES
from detcfg.data.errors import DataError, Problem
from detcfg.data.files import FileDataset, FileDatasetConfig, Table, box_problem
from detcfg.data.reading import MAX_NUMBER, files_in, problem_of_size, read_text

Box = tuple[float, float, float, float]


@frozen(kw_only=True)
class VOCDatasetConfig(FileDatasetConfig):
    """Images listed in an ImageSets file, each with an XML file (mmdet/datasets/xml_style.py).

    Difficult objects are ignored ones. Objects without width or height are left out, with a report.
    """

    data_root: str = "data/VOCdevkit/VOC2007"
    """The folder that everything below is in."""
    ann_file: str = "ImageSets/Main/trainval.txt"
    """The names of the images without suffix, one a line."""
    img_subdir: str = "JPEGImages"
    """The folder of the images."""
    ann_subdir: str = "Annotations"
    """The folder of the annotations."""
    classes: tuple[str, ...] = VOC_CLASSES
    """The classes to learn. Objects of other names are left out."""
    minus_one: bool = True
    """Take 1 from every coordinate, as MMDetection does: VOC counts pixels from 1. Set it to false for
    files of tools that count from 0."""

    def dataset(self, *, with_mask: bool = False) -> FileDataset:
        config = self.resolved()
        reader = _Reader(config)
        if with_mask:
            raise DataError(f"{reader.list_file}: VOC's XML holds no masks. Set with_mask to false.")
        return FileDataset(config, reader.list_file, reader.table, reader.problems, reader.truth)


@frozen(eq=False)
class _Annotated:
    """One image with its objects."""

    name: str
    path: str
    size: tuple[int, int]
    boxes: list[Box]
    labels: list[int]
    difficult: list[bool]


class _FaultError(Exception):
    """A file is of no use; the message says what is wrong with it."""


class _Reader:
    """One pass over the XML files: what is usable becomes a `Table`, what is not a list of problems."""

    def __init__(self, config: VOCDatasetConfig) -> None:
        self.config = config
        self.label_of = {name: label for label, name in enumerate(config.classes)}
        root, remedy = Path(config.data_root), "Correct data_root, ann_subdir and img_subdir."
        self.list_file = str(root / config.ann_file)
        self.problems: list[Problem] = []
        lines = read_text(self.list_file, "Correct data_root and ann_file.").splitlines()
        self.annotations = files_in(root / config.ann_subdir, remedy)
        self.pictures = _by_stem(files_in(root / config.img_subdir, remedy))
        self.images = self._read(lines)
        self.table = _table(self.images)

    def truth(self) -> dict[str, Any]:
        """The objects in COCO's format, for evaluation."""
        images = [
            {"id": image.name, "file_name": image.path, "height": image.size[0], "width": image.size[1]}
            for image in self.images
        ]
        objects = [
            (image.name, box, label, difficult)
            for image in self.images
            for box, label, difficult in zip(image.boxes, image.labels, image.difficult, strict=True)
        ]
        annotations = [
            {
                "id": number,
                "image_id": name,
                "category_id": label + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
                "difficult": int(difficult),
            }
            for number, (name, (x1, y1, x2, y2), label, difficult) in enumerate(objects, start=1)
        ]
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(self.config.classes)]
        return {"images": images, "annotations": annotations, "categories": categories}

    def _report(
        self,
        file: str,
        where: str,
        what: str,
        remedy: str,
        severity: Literal["error", "dropped"] = "error",
    ) -> None:
        problem = Problem(file=file, where=where, what=what, remedy=remedy, severity=severity)
        self.problems.append(problem)

    def _read(self, lines: list[str]) -> list[_Annotated]:
        found: dict[str, _Annotated] = {}
        for number, line in enumerate(lines, start=1):
            name = line.strip()
            if name and f"{name}.xml" not in self.annotations:
                name = name.split()[0]  # the lists of one class say 1 or -1 behind the name
            if not name:
                continue
            if name in found:
                where = f"line {number}, image {name}"
                self._report(self.list_file, where, "the image is listed twice", "Drop one of the lines.")
                continue
            try:
                found[name] = self._image(name)
            except _FaultError as fault:
                remedy = "Put it right, or drop the line."
                self._report(self.list_file, f"line {number}, image {name}", str(fault), remedy)
        return list(found.values())

    def _image(self, name: str) -> _Annotated:
        config = self.config
        if (file := self.annotations.get(f"{name}.xml")) is None:
            raise _FaultError(f"there is no {Path(config.data_root, config.ann_subdir, name)}.xml")
        if (path := self.pictures.get(name)) is None:
            raise _FaultError(f"there is no {Path(config.data_root, config.img_subdir, name)}.jpg")
        try:
            tree = ET.parse(file).getroot()  # noqa: S314 - expat itself refuses entity bombs
        except (ET.ParseError, OSError, LookupError, ValueError) as error:  # or of an unknown encoding
            raise _FaultError(f"{file} is no XML: {error}") from None
        size = self._size(tree, path)
        image = _Annotated(name, path, size, [], [], [])
        for number, element in enumerate(tree.iter("object"), start=1):
            self._add_object(image, element, file, f"object {number} of image {name}")
        return image

    def _size(self, tree: ET.Element, path: str) -> tuple[int, int]:
        size = _number(tree, "size/height"), _number(tree, "size/width")
        if all(math.isfinite(length) and length >= 1 for length in size):
            height, width = int(size[0]), int(size[1])
            if problem := problem_of_size(height, width):
                raise _FaultError(problem)
            return height, width
        from detcfg.data.images import image_size  # the XML does not say

        try:
            return image_size(
                path, ignore_orientation=self.config.ignore_orientation, max_pixels=self.config.max_pixels
            )
        except DataError as error:
            raise _FaultError(str(error).rstrip(".")) from None

    def _add_object(self, image: _Annotated, element: ET.Element, file: str, where: str) -> None:
        name = (element.findtext("name") or "").strip()
        if not name:
            self._report(file, where, "it has no name", "Name its class, or drop the object.")
        if name not in self.label_of:
            return
        corners = [_number(element, f"bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax")]
        # Whole pixels, as MMDetection takes them.
        x1, y1, x2, y2 = (
            math.trunc(c) - self.config.minus_one if abs(c) < MAX_NUMBER else math.nan for c in corners
        )
        if x2 <= x1 or y2 <= y1:
            given = ", ".join(f"{corner:g}" for corner in corners)
            what = f"its {name} has the box ({given}), which has no width or no height"
            self._report(file, where, what, "It is not learnt.", severity="dropped")
        elif problem := box_problem((x1, y1, x2, y2), image.size):
            given = ", ".join(f"{corner:g}" for corner in corners)
            what = f"its {name} has the box ({given}), which {problem}"
            self._report(file, where, what, "Correct the box, or drop the object.")
        else:
            image.boxes.append((x1, y1, x2, y2))
            image.labels.append(self.label_of[name])
            image.difficult.append((element.findtext("difficult") or "0").strip() not in ("0", ""))


def _table(images: list[_Annotated]) -> Table:
    counts = [len(image.labels) for image in images]
    return Table.of(
        image_ids=[image.name for image in images],
        paths=[image.path for image in images],
        sizes=np.array([image.size for image in images], dtype=np.int64),
        images=np.repeat(np.arange(len(images)), counts),
        boxes=np.array([box for image in images for box in image.boxes], dtype=np.float64),
        labels=np.array([label for image in images for label in image.labels], dtype=np.int64),
        ignored=np.array([flag for image in images for flag in image.difficult], dtype=bool),
    )


def _number(element: ET.Element, path: str) -> float:
    """The number in an inner element; NaN if there is none."""
    try:
        return float(element.findtext(path) or math.nan)
    except ValueError:
        return math.nan


def _by_stem(files: Mapping[str, str]) -> dict[str, str]:
    """Image files by name without suffix; of several, the jpg."""
    from detcfg.data.images import SUFFIXES

    found: dict[str, str] = {}
    for suffix in reversed(SUFFIXES):
        for name, path in files.items():
            if PurePosixPath(name).suffix.lower() == suffix:
                found[PurePosixPath(name).stem] = path
    return found
