"""Detections as other tools read them: rows of a table, and YOLO's text files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch

from detcfg.structures import Detections

CSV_COLUMNS: Final = ("image", "image_id", "category", "score", "xmin", "ymin", "xmax", "ymax")
"""Of `csv_rows`; corners in pixels of the image."""


def csv_rows(
    found: Detections, image: str, image_id: int | str, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """A row a detection, by `CSV_COLUMNS`.

    Args:
        found: In the pixels of the image.
        image: Its file.
        image_id: As the annotations or the table of images name it.
        classes: The names of the labels.
    """
    return [
        {"image": image, "image_id": image_id, "category": classes[int(label)], "score": float(score)}
        | {name: float(corner) for name, corner in zip(CSV_COLUMNS[4:], box, strict=True)}
        for label, score, box in zip(found.labels, found.scores, found.boxes, strict=True)
    ]


def yolo_text(found: Detections, size: tuple[int, int]) -> str:
    """The detections of an image as YOLO's tools write them: a line each, `class x y width height score`.

    The class counts from 0, (x, y) is the centre, and all four are fractions of the image, to which boxes are cut.

    Args:
        found: In the pixels of the image.
        size: Its (height, width).
    """
    height, width = size
    scale = found.boxes.new_tensor([width, height, width, height])
    corners = (found.boxes / scale).clamp(0, 1)
    middle, extent = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    rows = torch.cat([middle, extent, found.scores[:, None]], dim=1)
    return "".join(
        f"{int(label)} {' '.join(f'{float(value):.6g}' for value in row)}\n"
        for label, row in zip(found.labels, rows, strict=True)
    )
