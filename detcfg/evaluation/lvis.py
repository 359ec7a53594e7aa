"""What LVIS (Gupta et al., 2019, https://arxiv.org/abs/1908.03195) does unlike COCO.

Each image is annotated for some classes only: those that it has, and those that it was seen not to have.
Follows lvis/eval.py of lvis-api.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Self, cast

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

MAX_DETS: Final = 300
"""Detections of an image that count, over all classes."""
FREQUENCIES: Final = {"r": "rare", "c": "common", "f": "frequent"}
"""How many training images have a class: up to 10, up to 100, or more."""


@frozen(eq=False)
class Lvis:
    """What is known of each image, by its row, and of each class, by its label."""

    judged: list[frozenset[int]]
    """The classes that an image has or is known not to have. Detections of others do not count."""
    unfinished: list[frozenset[int]]
    """The classes of which not every object is annotated."""
    frequency: tuple[str, ...]
    """r, c or f."""

    @classmethod
    def of(
        cls,
        categories: Sequence[Mapping[str, Any]],
        images: Sequence[Mapping[str, Any]],
        label_of: Mapping[Any, int],
        labels: NDArray[np.int64],
        rows: NDArray[np.int64],
    ) -> Self | None:
        """Read what LVIS adds to COCO's format; None if the annotations are not LVIS's.

        Args:
            categories: By label.
            images: By row.
            label_of: The label of each category id.
            labels: (O,) of the objects.
            rows: (O,) the image of each object.
        """
        keys = ("neg_category_ids", "not_exhaustive_category_ids")
        if not all(isinstance(image.get(key), list) for image in images for key in keys):
            return None
        if not all(str(category.get("frequency")) in FREQUENCIES for category in categories):
            return None
        present: list[set[int]] = [set() for _ in images]
        for row, label in zip(map(int, rows), map(int, labels), strict=True):
            present[row].add(label)
        absent, unfinished = ([_labels(image[key], label_of) for image in images] for key in keys)
        return cls(
            judged=[frozenset(has) | none for has, none in zip(present, absent, strict=True)],
            unfinished=unfinished,
            frequency=tuple(str(category["frequency"]) for category in categories),
        )

    def labels(self, frequency: str) -> NDArray[np.int64]:
        """The classes of a frequency."""
        return np.array([i for i, kind in enumerate(self.frequency) if kind == frequency], dtype=np.int64)


def _labels(ids: object, label_of: Mapping[Any, int]) -> frozenset[int]:
    numbers = [number for number in cast("list[object]", ids) if type(number) in (int, str)]
    return frozenset(label_of[number] for number in numbers if number in label_of)
