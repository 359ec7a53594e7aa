"""What a transform is, and the pipeline that applies several to a sample.

A transform takes and returns a dict of tensors, the `Fields` of a sample. Every transform of
`torchvision.transforms.v2` is one already, since it treats each tensor by its type:

    image    (3, H, W) uint8, tv_tensors.Image
    boxes    (N, 4) float, tv_tensors.BoundingBoxes in XYXY
    labels   (N,) int64
    ignored  (N,) bool
    masks    (N, H, W) bool, tv_tensors.Mask; absent where the data has no masks
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from attrs import frozen
from torch import Tensor

from detcfg.config import Config
from detcfg.data.base import Sample
from detcfg.structures import Targets

Fields: TypeAlias = dict[str, Tensor]
Transform: TypeAlias = Callable[[Fields], Fields]


@frozen(kw_only=True)
class TransformConfig(Config, ABC):
    """A config of a transform. Random transforms draw from torch's default generator."""

    @abstractmethod
    def transform(self) -> Transform:
        """Make the transform: any function of `Fields`, a v2 transform for instance."""


class Pipeline:
    """Several transforms in turn. Objects that have left the image are dropped at the end."""

    def __init__(self, transforms: Sequence[TransformConfig]) -> None:
        self.transforms = tuple(config.transform() for config in transforms)

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """Transform a sample; the same seed gives the same result, whatever was drawn before."""
        before = torch.default_generator.get_state()
        torch.default_generator.manual_seed(seed)
        try:
            fields = to_fields(sample)
            for transform in self.transforms:
                fields = transform(fields)
        finally:
            torch.default_generator.set_state(before)
        return Sample(image=fields["image"], targets=to_targets(fields), info=sample.info)


def to_fields(sample: Sample) -> Fields:
    """A sample's tensors, typed so that v2 transforms know what each is."""
    from torchvision import tv_tensors

    targets, size = sample.targets, (sample.image.shape[-2], sample.image.shape[-1])
    fields: Fields = {
        "image": tv_tensors.Image(sample.image),
        "boxes": tv_tensors.BoundingBoxes(
            targets.boxes, format=tv_tensors.BoundingBoxFormat.XYXY, canvas_size=size
        ),
        "labels": targets.labels,
        "ignored": torch.zeros_like(targets.labels, dtype=torch.bool)
        if targets.ignored is None
        else targets.ignored,
    }
    if targets.masks is not None:
        fields["masks"] = tv_tensors.Mask(targets.masks)
    return fields


def is_spatial(value: Tensor) -> bool:
    """Whether a tensor has places in the image: pixels, boxes or masks."""
    from torchvision import tv_tensors

    return isinstance(value, tv_tensors.TVTensor)


def to_targets(fields: Fields) -> Targets:
    """The objects that are still inside the image, clipped to it."""
    height, width = fields["image"].shape[-2:]
    boxes = fields["boxes"].as_subclass(Tensor)
    limits = boxes.new_tensor([width, height, width, height])
    boxes = torch.minimum(boxes.clamp(min=0), limits)
    masks = fields.get("masks")
    targets = Targets(
        boxes=boxes,
        labels=fields["labels"],
        masks=None if masks is None else masks.as_subclass(Tensor),
        ignored=fields["ignored"],
    )
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return targets if bool(kept.all()) else targets[kept]
