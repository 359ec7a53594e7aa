"""The detections of an image, in the form in which they are kept, sent between processes and written to files.

Shapes: D detections of one image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from detcfg.data.masks import encode
from detcfg.errors import DetcfgError
from detcfg.evaluation.truth import ImageId
from detcfg.structures import Detections

Record: TypeAlias = dict[str, Any]


@frozen(eq=False)
class ImageDetections:
    """The detections of one image."""

    labels: NDArray[np.int64]
    """(D,): 0-based."""
    scores: NDArray[np.float64]
    """(D,)."""
    boxes: NDArray[np.float64]
    """(D, 4): x, y, width, height."""
    rles: list[Record] | None
    """The masks as compressed RLE, or None where there are none."""

    @classmethod
    def of(cls, image_id: ImageId, detections: Detections) -> ImageDetections:
        """What a model detects in an image.

        Args:
            image_id: Of the image, for errors.
            detections: In pixels of the original image.

        Raises:
            DetcfgError: A box or a score is not finite.
        """
        boxes = detections.boxes.detach().cpu().double().numpy().reshape(-1, 4).copy()
        scores = detections.scores.detach().cpu().double().numpy()
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise DetcfgError(
                f"image {image_id}: a detection has a box or a score that is not finite, so the weights are of "
                "no use. Go back to an earlier checkpoint, and lower the learning rate."
            )
        boxes[:, 2:] -= boxes[:, :2]
        return cls(
            labels=detections.labels.detach().cpu().numpy().astype(np.int64),
            scores=scores,
            boxes=boxes,
            rles=None if detections.masks is None else encode(detections.masks),
        )

    @classmethod
    def nothing(cls) -> ImageDetections:
        """No detections."""
        return cls(labels=np.zeros(0, dtype=np.int64), scores=np.zeros(0), boxes=np.zeros((0, 4)), rles=None)

    def at(self, rows: list[int]) -> ImageDetections:
        """Some of the detections."""
        rles = None if self.rles is None else [self.rles[i] for i in rows]
        return ImageDetections(
            labels=self.labels[rows], scores=self.scores[rows], boxes=self.boxes[rows], rles=rles
        )

    def entries(self, image_id: ImageId, category_ids: Sequence[int | str]) -> list[Record]:
        """The detections as COCO's json has them."""
        entries: list[Record] = [
            {"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}
            for label, box, score in zip(
                self.labels.tolist(), self.boxes.tolist(), self.scores.tolist(), strict=True
            )
        ]
        for entry, rle in zip(entries, self.rles or [], strict=self.rles is not None):
            entry["segmentation"] = rle
        return entries
