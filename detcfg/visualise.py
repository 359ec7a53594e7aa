"""Pictures of detections: boxes, masks and labels, a colour for each class."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

    from detcfg.structures import Detections

Colour: TypeAlias = tuple[int, int, int]

_TURN: Final = 0.618033988749895
"""The step on the colour wheel from one class to the next: with the golden ratio, any number of hues is spread."""
_OPACITY: Final = 0.45
"""Of a mask over the image."""


def class_colour(label: int) -> Colour:
    """The colour of a class, RGB; the same in every picture."""
    red, green, blue = colorsys.hsv_to_rgb(label * _TURN % 1, 0.85 - 0.25 * (label % 2), 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_detections(
    image: Tensor, detections: Detections, classes: Sequence[str], *, score_thr: float = 0.3
) -> Image:
    """A picture of an image with its detections, those of the highest score on top.

    Args:
        image: (3, H, W) uint8 RGB; it stays as it is.
        detections: In pixels of `image`.
        classes: The names of the labels.
        score_thr: Detections below it are left out.
    """
    from PIL import Image as Images
    from PIL import ImageDraw

    shown = detections.to("cpu")
    shown = shown[shown.scores >= score_thr]
    shown = shown[shown.scores.argsort(stable=True)]
    labels = [int(label) for label in shown.labels]
    if shown.masks is not None:
        image = blend_masks(image, shown.masks, [class_colour(label) for label in labels])
    picture = Images.fromarray(image.cpu().permute(1, 2, 0).contiguous().numpy())
    canvas = ImageDraw.Draw(picture)
    for box, label, score in zip(shown.boxes, labels, shown.scores, strict=True):
        name = classes[label] if label < len(classes) else str(label)
        _draw_box(canvas, picture, box, class_colour(label), f"{name} {score:.2f}")
    return picture


def blend_masks(image: Tensor, masks: Tensor, colours: Sequence[Colour]) -> Tensor:
    """An image (3, H, W) uint8 with masks (N, H, W) bool laid over it, each outlined."""
    pixels = image.cpu().float()
    for mask, colour in zip(masks, colours, strict=True):
        paint = torch.tensor(colour, dtype=torch.float32)[:, None]
        pixels[:, mask] += _OPACITY * (paint - pixels[:, mask])
        pixels[:, _outline(mask)] = paint
    return pixels.round().to(torch.uint8)


def _outline(mask: Tensor) -> Tensor:
    """The pixels of a mask (H, W) that have a neighbour outside it."""
    inside = torch.nn.functional.pad(mask, (1, 1, 1, 1))
    core = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    return mask & ~core


def _draw_box(canvas: ImageDraw, picture: Image, box: Tensor, colour: Colour, text: str) -> None:
    from PIL import ImageFont

    shorter = min(picture.size)
    x1, y1, x2, y2 = (float(corner) for corner in box)
    # Pillow wants corners in order, and a box may be thinner than its line.
    canvas.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour, width=max(1, shorter // 250))
    font = ImageFont.load_default(max(10, shorter // 40))
    left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
    width, height = right - left + 4, bottom - top + 4
    x = float(np.clip(x1, 0, max(0, picture.width - width)))
    y = y1 - height if y1 >= height else min(max(y1, 0.0), max(0.0, picture.height - height))
    canvas.rectangle((x, y, x + width, y + height), fill=colour)
    dark = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] < 140
    canvas.text((x + 2 - left, y + 2 - top), text, fill="white" if dark else "black", font=font)
