"""A trained detector on image files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detcfg.data.base import ImageInfo, Sample
from detcfg.data.config import DataConfig
from detcfg.data.images import read_image
from detcfg.data.transforms import Pipeline
from detcfg.detectors.base import Detector
from detcfg.structures import Detections, Targets


class Predictor:
    """Reads an image as validation would, and finds what is in it."""

    def __init__(self, model: Detector, data: DataConfig) -> None:
        self.model = model.eval()
        self.classes = data.classes
        self.transforms = Pipeline(data.val_transforms)

    def __call__(self, path: Path) -> tuple[Tensor, Detections]:
        """The image, (3, H, W) uint8 RGB, and what is found in it, in its pixels.

        Raises:
            DataError: The image cannot be read.
        """
        image = read_image(str(path))
        return image, self.of_image(image)

    @torch.no_grad()
    def of_image(self, image: Tensor) -> Detections:
        """What is found in an image (3, H, W) uint8 RGB, in its pixels."""
        size = (image.shape[-2], image.shape[-1])
        nothing = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
        sample = Sample(image, nothing, ImageInfo(image_id=0, path="", size=size))
        (found,) = self.model.predict([self.transforms(sample, seed=0).image.as_subclass(Tensor)], [size])
        return found

    def to_data(self, image: Tensor, found: Detections) -> dict[str, Any]:
        """Detections in an image, for JSON; boxes and masks as COCO writes them."""
        from detcfg.data.masks import encode

        boxes = torch.cat((found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]), dim=1)
        entries: list[dict[str, Any]] = [
            {"category": self.classes[int(label)], "score": float(score), "bbox": [float(x) for x in box]}
            for label, score, box in zip(found.labels, found.scores, boxes, strict=True)
        ]
        if found.masks is not None:
            for entry, code in zip(entries, encode(found.masks), strict=True):
                entry["segmentation"] = code
        return {"height": image.shape[-2], "width": image.shape[-1], "detections": entries}
