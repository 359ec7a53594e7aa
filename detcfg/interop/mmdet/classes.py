"""Class names that MMDetection keeps in its datasets' code, where its configs do not name them."""

from __future__ import annotations

from typing import Final

PLACEHOLDER: Final = "class_{}"
"""Stands for a name that the config does not give."""

CITYSCAPES: Final = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
DEEP_FASHION: Final = (
    "top",
    "skirt",
    "leggings",
    "dress",
    "outer",
    "pants",
    "bag",
    "neckwear",
    "headwear",
    "eyeglass",
    "belt",
    "footwear",
    "hair",
    "skin",
    "face",
)
COCO_FORMAT: Final[dict[str, tuple[str, ...] | None]] = {
    "CocoDataset": None,
    "CityscapesDataset": CITYSCAPES,
    "DeepFashionDataset": DEEP_FASHION,
    "LVISDataset": (),
    "LVISV05Dataset": (),
    "Objects365V1Dataset": (),
    "Objects365V2Dataset": (),
    "V3DetDataset": (),
}
"""Datasets whose annotations are COCO's json: their classes, () for too many to keep, None for COCO's classes."""


def placeholders(count: int) -> tuple[str, ...]:
    """Names to be replaced."""
    return tuple(PLACEHOLDER.format(number) for number in range(count))


def are_placeholders(names: tuple[object, ...]) -> bool:
    """Whether names are still to be replaced."""
    return len(names) > 0 and names == placeholders(len(names))
