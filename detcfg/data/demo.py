"""Scenes of coloured shapes, drawn on the spot: data with boxes and masks that needs no download.

The same index gives the same scene on every machine: all choices come from streams that Python and
NumPy promise not to change (`random.Random.random`, `RandomState`).
"""

from __future__ import annotations

import math
import random
from typing import Any, Literal

import numpy as np
import torch
from attrs import frozen
from numpy.typing import NDArray

from detcfg.config import ConfigError
from detcfg.config.ranges import NonNegativeInt, PositiveInt, Seed
from detcfg.data.base import Dataset, DatasetConfig, ImageInfo, Sample
from detcfg.data.errors import DataError
from detcfg.structures import Targets

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SHAPES = ("disc", "square", "triangle", "star")
_OUTLINES = {
    "square": [(math.cos(a), math.sin(a)) for a in (math.tau * (k + 0.5) / 4 for k in range(4))],
    "triangle": [(math.cos(a), math.sin(a)) for a in (math.tau * k / 3 for k in range(3))],
    "star": [
        ((1 if k % 2 == 0 else 0.45) * math.cos(math.tau * k / 10), math.sin(math.tau * k / 10) * r)
        for k in range(10)
        for r in (1 if k % 2 == 0 else 0.45,)
    ],
}
"""Corners on the unit circle, for the shapes that have corners."""
_MIN_VISIBLE = 0.5
"""A shape is placed only where no other ends up with less of it showing than this."""


@frozen(kw_only=True)
class DemoDatasetConfig(DatasetConfig):
    """Scenes of discs, squares, triangles and stars, which overlap, on varied backgrounds."""

    classes: tuple[str, ...] = SHAPES
    """Those of the shapes to draw."""
    split: Literal["train", "val"] = "train"
    """The scenes of one split appear in no other."""
    num_images: NonNegativeInt = 400
    """Images in the dataset."""
    image_size: tuple[PositiveInt, PositiveInt] = (128, 160)
    """(height, width) in pixels."""
    max_objects: PositiveInt = 6
    """A scene has from 1 to this many shapes."""
    seed: Seed = 0
    """Decides what is drawn."""

    def wired(self) -> DemoDatasetConfig:
        super().wired()
        if unknown := [name for name in self.classes if name not in SHAPES]:
            raise ConfigError(f"classes: the demo draws {', '.join(SHAPES)}, not {unknown[0]!r}.")
        if min(self.image_size) < 32:
            raise ConfigError(f"image_size is {self.image_size}; a scene needs at least 32 pixels each way.")
        return self

    def dataset(self, *, with_mask: bool = False) -> DemoDataset:
        return DemoDataset(self, with_mask=with_mask)


@frozen(eq=False)
class _Scene:
    image: Image
    labels: list[int]
    masks: list[Mask]


class DemoDataset(Dataset):
    def __init__(self, config: DemoDatasetConfig, *, with_mask: bool) -> None:
        if not config.num_images:
            raise DataError("The demo dataset has no images. Set num_images to at least 1.")
        self.config, self.with_mask = config, with_mask
        self.classes = config.classes

    def __len__(self) -> int:
        return self.config.num_images

    def __getitem__(self, index: int) -> Sample:
        from torchvision import tv_tensors

        scene = self._draw(index)
        return Sample(
            image=tv_tensors.Image(torch.as_tensor(scene.image).permute(2, 0, 1).contiguous()),
            targets=_targets(scene, with_mask=self.with_mask),
            info=self.info(index),
        )

    def info(self, index: int) -> ImageInfo:
        config = self.config
        path = f"demo:{config.split}/{config.seed}/{index}"
        return ImageInfo(image_id=index, path=path, size=config.image_size)

    def targets(self, index: int) -> Targets:
        return _targets(self._draw(index), with_mask=False)

    def ground_truth(self) -> dict[str, Any]:
        from detcfg.data.masks import encode

        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        height, width = self.config.image_size
        for index in range(len(self)):
            images.append({"id": index, "file_name": str(index), "height": height, "width": width})
            scene = self._draw(index)
            for label, mask in zip(scene.labels, scene.masks, strict=True):
                x1, y1, x2, y2 = _extent(mask)
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": index,
                        "category_id": label + 1,
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "area": int(mask.sum()),
                        "iscrowd": 0,
                        "segmentation": encode(torch.as_tensor(mask[None]))[0],
                    }
                )
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(self.classes)]
        return {"images": images, "annotations": annotations, "categories": categories}

    def _draw(self, index: int) -> _Scene:
        if not 0 <= index < len(self):
            raise IndexError(index)
        chance = random.Random(f"{self.config.seed}/{self.config.split}/{index}")  # noqa: S311
        return draw_scene(chance, self.config)


def draw_scene(chance: random.Random, config: DemoDatasetConfig) -> _Scene:
    """One scene: a background, then shapes from far to near."""
    height, width = config.image_size
    image = _background(chance, height, width)
    labels: list[int] = []
    masks: list[Mask] = []
    areas: list[int] = []
    for _ in range(1 + _below(chance, config.max_objects)):
        label = _below(chance, len(config.classes))
        mask = _shape(chance, config.classes[label], height, width)
        remaining = [int((other & ~mask).sum()) for other in masks]
        if any(left < _MIN_VISIBLE * area for left, area in zip(remaining, areas, strict=True)):
            continue
        masks = [other & ~mask for other in masks]
        _paint(chance, image, mask)
        labels.append(label)
        masks.append(mask)
        areas.append(int(mask.sum()))
    return _Scene(image=np.clip(image, 0, 255).astype(np.uint8), labels=labels, masks=masks)


def _background(chance: random.Random, height: int, width: int) -> NDArray[np.float32]:
    """A colour that changes across the image, with stripes and grain."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    here, there = _colour(chance), _colour(chance)
    angle = chance.random() * math.tau
    along = x / width * math.cos(angle) + y / height * math.sin(angle)
    image = here + (there - here) * (along[..., None] * 0.5 + 0.25)
    period, strength = 4 + 20 * chance.random(), 25 * chance.random()
    angle = chance.random() * math.tau
    stripes = np.sin((x * math.cos(angle) + y * math.sin(angle)) * np.float32(math.tau / period))
    image += strength * stripes[..., None]
    grain = np.random.RandomState(_below(chance, 2**31)).standard_normal((height, width, 1))
    image += (2 + 8 * chance.random()) * grain
    return np.asarray(image, dtype=np.float32)


def _shape(chance: random.Random, name: str, height: int, width: int) -> Mask:
    """Where a shape lies; all of it is inside the image."""
    shorter = min(height, width)
    radius = shorter * (0.07 + 0.18 * chance.random())
    center_x = radius + chance.random() * (width - 2 * radius)
    center_y = radius + chance.random() * (height - 2 * radius)
    turn = chance.random() * math.tau
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) + np.float32(0.5)
    x, y = (x - center_x) / radius, (y - center_y) / radius
    if name == "disc":
        return np.asarray(x * x + y * y <= 1)
    cos, sin = math.cos(turn), math.sin(turn)
    corners = [(a * cos - b * sin, a * sin + b * cos) for a, b in _OUTLINES[name]]
    return _inside(x, y, corners)


def _inside(x: NDArray[np.float32], y: NDArray[np.float32], corners: list[tuple[float, float]]) -> Mask:
    """Even-odd rule: how often a ray to the right crosses the outline."""
    inside = np.zeros(x.shape, dtype=bool)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        if ay == by:
            continue
        crosses = (ay > y) != (by > y)
        inside ^= crosses & (x < ax + (y - ay) * ((bx - ax) / (by - ay)))
    return inside


def _paint(chance: random.Random, image: NDArray[np.float32], mask: Mask) -> None:
    """Fill a shape with a colour that stands out from what is behind it."""
    behind = image[mask].mean(axis=0)
    colour = _colour(chance)
    while float(np.abs(colour - behind).max()) < 70:
        colour = _colour(chance)
    shade = np.linspace(-20, 20, image.shape[0], dtype=np.float32)[:, None, None] * chance.random()
    image[mask] = (colour + shade + np.zeros_like(image))[mask]


def _colour(chance: random.Random) -> NDArray[np.float32]:
    return np.array([30 + 200 * chance.random() for _ in range(3)], dtype=np.float32)


def _below(chance: random.Random, limit: int) -> int:
    """A whole number from 0 to `limit` - 1."""
    return int(chance.random() * limit)


def _extent(mask: Mask) -> tuple[int, int, int, int]:
    """The tight box (x1, y1, x2, y2) around a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _targets(scene: _Scene, *, with_mask: bool) -> Targets:
    boxes = [_extent(mask) for mask in scene.masks]
    return Targets(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(scene.labels, dtype=torch.int64),
        masks=torch.as_tensor(np.stack(scene.masks)) if with_mask else None,
    )
