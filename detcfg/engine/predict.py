"""A trained detector on image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detcfg.data.base import ImageInfo, Sample
from detcfg.data.config import DataConfig
from detcfg.data.transforms import Pipeline
from detcfg.detectors.base import Detector
from detcfg.evaluation.found import ImageDetections
from detcfg.evaluation.truth import ImageId
from detcfg.structures import Detections, Targets


class Predictor:
    """Reads an image as validation would, and finds what is in it."""

    def __init__(self, model: Detector, data: DataConfig) -> None:
        self.model = model.eval()
        self.classes = data.classes
        self.source = data.test or data.val
        """Whose settings images are read with: those of what `detcfg eval` judges on."""
        self.transforms = Pipeline(data.val_transforms)

    def __call__(self, path: Path) -> tuple[Tensor, Detections]:
        """The image, (3, H, W) uint8 RGB, and what is found in it, in its pixels.

        Raises:
            DataError: The image cannot be read.
        """
        image = self.source.read_image(str(path), whole=True)
        seen = image if self.source.reads_whole else self.source.read_image(str(path))
        return image, self.of_image(seen, (image.shape[-2], image.shape[-1]))

    @torch.no_grad()
    def of_image(self, image: Tensor, size: tuple[int, int] | None = None) -> Detections:
        """What is found in an image (3, H, W) uint8 RGB.

        Args:
            image: The pixels.
            size: (height, width) in whose pixels boxes and masks come back; None: those of `image`.
        """
        size = size or (image.shape[-2], image.shape[-1])
        nothing = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
        sample = Sample(image, nothing, ImageInfo(image_id=0, path="", size=size))
        (found,) = self.model.predict([self.transforms(sample, seed=0).image.as_subclass(Tensor)], [size])
        return found

    def results(
        self, found: Detections, image_id: ImageId, category_ids: Sequence[ImageId]
    ) -> list[dict[str, Any]]:
        """Detections as the results of COCO's format.

        Args:
            found: In the pixels of the image.
            image_id: The image's.
            category_ids: Of each label.
        """
        return ImageDetections.of(image_id, found).entries(image_id, category_ids)

    def to_data(self, image: Tensor, found: Detections) -> dict[str, Any]:
        """Detections in an image with the names of their classes, for JSON; boxes and masks as COCO writes them."""
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
