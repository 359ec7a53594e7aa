"""The ids that annotations in COCO's format give to images and classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import Any, Self, cast

from attrs import frozen

from detcfg.config import did_you_mean
from detcfg.data.errors import DataError
from detcfg.data.reading import category_of_name, identifier, read_json, records
from detcfg.evaluation.truth import ImageId


@frozen(eq=False)
class Ids:
    """The images and categories of an annotation file, by name."""

    source: str
    """The file, which errors name."""
    data: dict[str, Any]
    """What it holds."""

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a file.

        Raises:
            DataError: It is absent, broken, or no annotation file.
        """
        data = read_json(path, "Correct the path of the annotations.")
        for key in ("images", "categories"):
            if not isinstance(data, dict) or not isinstance(cast("dict[str, Any]", data).get(key), list):
                raise DataError(f"{path}: this is not a COCO annotation file: it has no list of {key}.")
        return cls(str(path), cast("dict[str, Any]", data))

    def of_files(self, files: Sequence[Path]) -> list[ImageId]:
        """The id of each file: of the image whose `file_name` agrees longest with the end of its path.

        Raises:
            DataError: A file is no image of the annotations, or one of several.
        """
        by_end: dict[str, list[ImageId]] = {}
        for image in records(self.data, "images"):
            parts = PureWindowsPath(str(image.get("file_name"))).parts  # takes both kinds of slash
            for start in range(len(parts) if identifier(image) is not None else 0):
                by_end.setdefault("/".join(parts[start:]), []).append(identifier(image))
        ids: list[ImageId] = []
        none: list[ImageId] = []
        for file in files:
            parts = file.absolute().parts
            ends = ("/".join(parts[start:]) for start in range(len(parts)))
            known = next((by_end[end] for end in ends if end in by_end), none)
            if len(known) != 1:
                what = f"{len(known):,} images of that name" if known else "no image of that name"
                raise DataError(
                    f"{file}: {self.source} has {what}. Leave the file out, or correct the file_name."
                )
            ids += known
        return ids

    def of_classes(self, classes: Sequence[str]) -> list[int]:
        """The category id of each class.

        Raises:
            DataError: A class is no category of the annotations, or several.
        """
        by_name: dict[str, dict[int, dict[str, Any]]] = {}
        for category in records(self.data, "categories"):
            if (number := identifier(category)) is not None:
                by_name.setdefault(str(category.get("name")), {})[number] = category
        ids: list[int] = []
        for name in classes:
            number = category_of_name(self.data, by_name.get(name, {}))
            if number is None:
                which = f"{len(by_name[name])} categories" if name in by_name else "no category"
                hint = "" if name in by_name else did_you_mean(name, by_name)
                raise DataError(
                    f"{self.source}: the model's class {name!r} is {which} of the file. {hint}".rstrip()
                )
            ids.append(number)
        return ids
