"""Test-time augmentation: a detector run on several scales and the mirror image of each image.

Shapes: B images, (B, 3, H, W) when normalised and padded; n detections of all views of one image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from attrs import evolve, field, frozen
from torch import Tensor

from detcfg.boxes.nms import NMSConfig
from detcfg.config import fill
from detcfg.config.ranges import CountOrAll, NonEmpty, PositiveInt
from detcfg.detectors.base import Detector, DetectorConfig
from detcfg.structures import Detections, ImageBatch, Targets, ceil_to, rescaled_size


@frozen(kw_only=True)
class DetTTAModelConfig(DetectorConfig):
    """Any detector with test-time augmentation (mmdet/models/test_time_augs/det_tta.py).

    It trains as the detector does, and its weights have the detector's names, so a checkpoint of the
    detector loads. Give it the images in their original size (`val_transforms=()`): it resizes them.
    """

    detector: DetectorConfig = field()
    """The detector that is run on each view."""
    scales: NonEmpty[tuple[PositiveInt, PositiveInt]] = ((1333, 800), (666, 400), (2000, 1200))
    """Upper bounds of the longer and the shorter edge of each scale, in pixels, as of `ResizeConfig`."""
    flip: bool = True
    """Whether each scale is run mirrored, too."""
    nms: NMSConfig = NMSConfig(iou_threshold=0.5)
    """Non-maximum suppression over the detections of all views, within each class."""
    max_per_img: CountOrAll = 100
    """At most so many detections of an image; -1 for all."""

    def wired(self) -> Self:
        wired = super().wired()
        detector = fill(wired.detector, "num_classes", num_classes=wired.num_classes)
        return evolve(wired, detector=detector, data_preprocessor=detector.data_preprocessor)

    def build(self) -> DetTTAModel:
        return DetTTAModel(self.resolved())


class DetTTAModel(Detector):
    """Detections of all views are mapped back to the image and merged by NMS."""

    def __init__(self, config: DetTTAModelConfig) -> None:
        super().__init__(config)
        self.detector = config.detector.build()
        self.scales, self.flip = config.scales, config.flip
        self.nms, self.max_per_img = config.nms, config.max_per_img
        self.divisor = config.data_preprocessor.pad_size_divisor
        self.pad_value = config.data_preprocessor.pad_value

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The detector's."""
        return self.detector.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load the detector's."""
        return self.detector.load_state_dict(*args, **kwargs)

    def extract_features(self, images: Tensor) -> tuple[Tensor, ...]:
        """The normalised images as they are: features are extracted from each view."""
        return (images,)

    def losses_of(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        return self.detector.losses_of(self.detector.extract_features(features[0]), batch, targets)

    def detections_of(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        del features
        views = [
            self.detector.detections_of(self.detector.extract_features(view.tensor), view)
            for view in self._views(batch)
        ]
        if self.flip:  # every other view is a mirror image
            for view in views[1::2]:
                view[:] = [mirrored(d, w) for d, (_, w) in zip(view, batch.output_sizes, strict=True)]
        return [self._merged(of_image) for of_image in zip(*views, strict=True)]

    def _views(self, batch: ImageBatch) -> Iterator[ImageBatch]:
        """The batch in each scale, each followed by its mirror image."""
        for scale in self.scales:
            sizes = [rescaled_size(size, scale) for size in batch.sizes]
            images = [
                F.interpolate(image[None, :, : old[0], : old[1]], size, mode="bilinear")[0]
                for image, old, size in zip(batch.tensor, batch.sizes, sizes, strict=True)
            ]
            yield self._padded(images, batch)
            if self.flip:
                yield self._padded([image.flip(2) for image in images], batch)

    def _padded(self, images: list[Tensor], batch: ImageBatch) -> ImageBatch:
        sizes = tuple((image.shape[-2], image.shape[-1]) for image in images)
        padded = tuple((ceil_to(h, self.divisor), ceil_to(w, self.divisor)) for h, w in sizes)
        height, width = max(h for h, _ in padded), max(w for _, w in padded)
        tensor = batch.tensor.new_full((len(images), 3, height, width), self.pad_value)
        for slot, image, (h, w) in zip(tensor, images, sizes, strict=True):
            slot[:, :h, :w] = image
        return ImageBatch(tensor, sizes, padded, batch.output_sizes)

    def _merged(self, views: Sequence[Detections]) -> Detections:
        masks = [view.masks for view in views if view.masks is not None]
        together = Detections(
            boxes=torch.cat([view.boxes for view in views]),
            scores=torch.cat([view.scores for view in views]),
            labels=torch.cat([view.labels for view in views]),
            masks=torch.cat(masks) if masks else None,
        )
        kept, scores = self.nms.keep(together.boxes, together.scores, together.labels)
        if self.max_per_img >= 0:
            kept, scores = kept[: self.max_per_img], scores[: self.max_per_img]
        return evolve(together[kept], scores=scores)


def mirrored(detections: Detections, width: int) -> Detections:
    """Detections of a mirror image, in an image of this width."""
    x1, y1, x2, y2 = detections.boxes.unbind(1)
    masks = detections.masks
    return evolve(
        detections,
        boxes=torch.stack((width - x2, y1, width - x1, y2), dim=1),
        masks=None if masks is None else masks.flip(2),
    )
