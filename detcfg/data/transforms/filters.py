"""Transforms that leave objects out."""

from __future__ import annotations

from attrs import frozen
from torch import Tensor

from detcfg.config.ranges import NonNegativeFloat, NonNegativeInt
from detcfg.data.transforms.base import Fields, Transform, TransformConfig


@frozen(kw_only=True)
class FilterAnnotationsConfig(TransformConfig):
    """Leave out objects that are too small (mmdet/datasets/transforms/loading.py, FilterAnnotations).

    An image that is left without objects is background, where MMDetection takes another unless `keep_empty`
    is false.
    """

    min_gt_bbox_wh: tuple[NonNegativeFloat, NonNegativeFloat] = (1.0, 1.0)
    """A box stays that is wider and higher than this, in pixels."""
    by_mask: bool = False
    """Leave out objects of which too little is seen as well, where there are masks."""
    min_gt_mask_area: NonNegativeInt = 1
    """Pixels of an object's mask, with `by_mask`."""

    def transform(self) -> Transform:
        return FilterAnnotations(self)


class FilterAnnotations:
    def __init__(self, config: FilterAnnotationsConfig) -> None:
        self.config = config

    def __call__(self, fields: Fields) -> Fields:
        boxes, masks = fields["boxes"], fields.get("masks")
        sides = boxes[:, 2:] - boxes[:, :2]
        kept = (sides > sides.new_tensor(self.config.min_gt_bbox_wh)).all(dim=1)
        if self.config.by_mask and masks is not None:
            kept &= masks.flatten(1).sum(dim=1) >= self.config.min_gt_mask_area
        return {name: value if name == "image" else _rows(value, kept) for name, value in fields.items()}


def _rows(value: Tensor, kept: Tensor) -> Tensor:
    """Those of the objects' values, of the type that they had."""
    from torchvision import tv_tensors

    rows = value.as_subclass(Tensor)[kept]
    return tv_tensors.wrap(rows, like=value) if isinstance(value, tv_tensors.TVTensor) else rows
