"""Data in Pascal VOC's format: one XML file an image."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from os.path import isdir
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal
from xml.etree import ElementTree as ET

import numpy as np
from attrs import frozen

from detcfg.data.classes import VOC_CLASSES
from detcfg.data.errors import FRACTIONS, DataError, LeftOut, Problem
from detcfg.data.files import FileDataset, FileDatasetConfig, Table, box_problem
from detcfg.data.reading import MAX_NUMBER, files_in, flag, problem_of_size, read_text

Box = tuple[float, float, float, float]

_FRACTIONS: Final = "Multiply x by the image's width and y by its height: VOC's corners are in pixels."


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
    """Take 1 from every coordinate, as MMDetection does: VOC counts pixels from 1, and its xmax is the last pixel inside,
    so that boxes come out a pixel less wide than they are, for MMDetection and for its published figures. Set it to
    false for files whose corners are edges that count from 0: those of labelImg (cut to whole pixels, 1 at least), of
    CVAT and Datumaro (as they were drawn), and of early versions of supervision; later ones add 1."""
    integer: bool = True
    """Cut coordinates to whole pixels, as MMDetection does. Set it to false to keep fractions, which CVAT and
    Datumaro write."""
    allow_missing_xml: bool = False
    """Take an image that is listed and has no XML file for background, as Datumaro and CVAT write images
    without objects. False: it is an error."""

    def dataset(self, *, with_mask: bool = False) -> FileDataset:
        config = self.resolved()
        reader = _Reader(config)
        if with_mask:
            raise DataError(f"{reader.list_file}: VOC's XML holds no masks. Set with_mask to false.")
        return FileDataset(
            config,
            reader.list_file,
            reader.table,
            reader.problems,
            reader.truth,
            left_out=reader.left_out(),
        )


@frozen(eq=False)
class _Annotated:
    """One image with its objects."""

    name: str
    path: str
    size: tuple[int, int]
    numbers: list[int]
    """Which of the file's objects they are, from 1."""
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
        self.list_file = str(Path(config.data_root, config.ann_file))
        self.problems: list[Problem] = []
        self._other_names: Counter[str] = Counter()
        self._flat: list[str] = []
        self._fractions: list[str] = []
        lines = read_text(self.list_file, "Correct data_root and ann_file.").splitlines()
        self._folders = {"": self._listed("")}
        self.images = self._read(lines)
        self.table = _table(self.images)

    def left_out(self) -> list[LeftOut]:
        """The objects that are ignored or dropped, by reason."""
        places = [
            f"object {number} of image {image.name}"
            for image in self.images
            for number, difficult in zip(image.numbers, image.difficult, strict=True)
            if difficult
        ]
        names = [f"{name!r} ({count:,})" for name, count in self._other_names.most_common(3)]
        groups = (
            ("difficult", len(places), places, "Set difficult to 0."),
            ("without width or height", len(self._flat), self._flat, "Correct the boxes."),
            (FRACTIONS, len(self._fractions), self._fractions, _FRACTIONS),
            ("of other classes", self._other_names.total(), [", ".join(names)], self._remedy_of_names()),
        )
        return [
            LeftOut(
                reason=reason,
                count=count,
                example=found[0],
                remedy=remedy,
                ignored=reason == "difficult",
                suspect=reason in ("of other classes", FRACTIONS),
            )
            for reason, count, found, remedy in groups
            if count
        ]

    def _remedy_of_names(self) -> str:
        """What to do about names that no class has."""
        plain = {_plain(name): name for name in self.config.classes}
        for name in self._other_names:
            if alike := plain.get(_plain(name)):
                return f"{name!r} is not the class {alike!r}: names count with their case. Correct classes."
        return "Add their names to the dataset's classes, if they are to be learned."

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
        severity: Literal["error", "dropped", "note"] = "error",
    ) -> None:
        problem = Problem(file=file, where=where, what=what, remedy=remedy, severity=severity)
        self.problems.append(problem)

    def _read(self, lines: list[str]) -> list[_Annotated]:
        found: dict[str, _Annotated] = {}
        for number, line in enumerate(lines, start=1):
            if not (name := self._name(line.strip())):
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

    def _name(self, line: str) -> str:
        """The name that a line begins with.

        The lists of one class say 1 or -1 behind it; Datumaro puts names with spaces in quotes.
        """
        if line.startswith('"') and '"' in line[1:]:
            return line[1:].partition('"')[0]
        known = not line or any(self._files(line))
        return line if known else line.split(maxsplit=1)[0]

    def _files(self, name: str) -> tuple[str | None, str | None]:
        """The XML file and the picture of a name, which may lie in a sub-folder ("sub/a") of either folder."""
        from detcfg.data.images import problem_of_name

        if problem_of_name(name):
            return None, None
        folder, _, base = name.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = self._listed(folder)
        annotations, pictures = self._folders[folder]
        return annotations.get(f"{base}.xml"), pictures.get(base)

    def _listed(self, folder: str) -> tuple[dict[str, str], dict[str, str]]:
        """The files of a sub-folder of annotations, and of pictures by their names without suffix."""
        root = Path(self.config.data_root)
        remedy = "Correct data_root, ann_subdir and img_subdir."
        files: list[dict[str, str]] = []
        for top in (self.config.ann_subdir, self.config.img_subdir):
            path = root / top / PurePosixPath(folder)
            # Path.is_dir fails on a name that is too long.
            files.append(files_in(path, remedy) if not folder or isdir(path) else {})  # noqa: PTH112
        return files[0], _by_stem(files[1])

    def _image(self, name: str) -> _Annotated:
        config = self.config
        file, path = self._files(name)
        if file is None and not config.allow_missing_xml:
            fault = f"there is no {Path(config.data_root, config.ann_subdir, name)}.xml"
            if path is not None:
                fault += " (allow_missing_xml takes such images for background)"
            raise _FaultError(fault)
        if path is None:
            raise _FaultError(f"there is no {Path(config.data_root, config.img_subdir, name)}.jpg")
        if file is None:
            return _Annotated(name, path, self._size_of_file(path), [], [], [], [])
        try:
            tree = ET.parse(file).getroot()  # noqa: S314 - expat itself refuses entity bombs
        except (ET.ParseError, OSError, LookupError, ValueError) as error:  # or of an unknown encoding
            raise _FaultError(f"{file} is no XML: {error}") from None
        size = self._size(tree, path)
        image = _Annotated(name, path, size, [], [], [], [])
        for number, element in enumerate(tree.iter("object"), start=1):
            self._add_object(image, element, file, number)
        return image

    def _size(self, tree: ET.Element, path: str) -> tuple[int, int]:
        size = _number(tree, "size/height"), _number(tree, "size/width")
        if all(math.isfinite(length) and length >= 1 for length in size):
            height, width = int(size[0]), int(size[1])
            if problem := problem_of_size(height, width):
                raise _FaultError(problem)
            return height, width
        return self._size_of_file(path)  # the XML does not say

    def _size_of_file(self, path: str) -> tuple[int, int]:
        from detcfg.data.images import image_size

        try:
            return image_size(
                path, ignore_orientation=self.config.ignore_orientation, max_pixels=self.config.max_pixels
            )
        except DataError as error:
            raise _FaultError(str(error).rstrip(".")) from None

    def _add_object(self, image: _Annotated, element: ET.Element, file: str, number: int) -> None:
        name, where = (element.findtext("name") or "").strip(), f"object {number} of image {image.name}"
        if not name:
            self._report(file, where, "it has no name", "Name its class, or drop the object.")
            return
        if name not in self.label_of:
            self._other_names[name] += 1
            return
        corners = [_number(element, f"bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax")]
        whole, first = self.config.integer, int(self.config.minus_one)
        x1, y1, x2, y2 = (
            (math.trunc(c) if whole else c) - first if abs(c) < MAX_NUMBER else math.nan for c in corners
        )
        given = ", ".join(f"{corner:g}" for corner in corners)
        if x2 <= x1 or y2 <= y1:
            what = f"its {name} has the box ({given}), which has no width or no height"
            self._report(file, where, what, "It is not learnt.", severity="dropped")
            fractions = 0 <= corners[0] < corners[2] <= 1 and 0 <= corners[1] < corners[3] <= 1
            (self._fractions if fractions else self._flat).append(where)
        elif problem := box_problem((x1, y1, x2, y2), image.size):
            what = f"its {name} has the box ({given}), which {problem}"
            self._report(file, where, what, "Correct the box, or drop the object.")
        else:
            image.numbers.append(number)
            image.boxes.append((x1, y1, x2, y2))
            image.labels.append(self.label_of[name])
            image.difficult.append(self._is_difficult(element, file, where))

    def _is_difficult(self, element: ET.Element, file: str, where: str) -> bool:
        text = (element.findtext("difficult") or "").strip()
        if (difficult := flag(text)) is None:
            what = f"its difficult is {text!r}, which is no flag"
            self._report(file, where, what, "It is taken for 0: write 0 or 1.", severity="note")
        return difficult or False


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


def _plain(name: str) -> str:
    """A name without what is easily written otherwise."""
    return name.casefold().replace("_", " ").replace("-", " ").strip()


def _by_stem(files: Mapping[str, str]) -> dict[str, str]:
    """Image files by name without suffix; of several, the jpg."""
    from detcfg.data.images import SUFFIXES

    found: dict[str, str] = {}
    for suffix in reversed(SUFFIXES):
        for name, path in files.items():
            if PurePosixPath(name).suffix.lower() == suffix:
                found[PurePosixPath(name).stem] = path
    return found
