"""Data in COCO's json format."""

from __future__ import annotations

from attrs import field, frozen, validators

from detcfg.data.base import Dataset, DatasetConfig
from detcfg.data.classes import COCO_CLASSES


@frozen(kw_only=True)
class CocoDatasetConfig(DatasetConfig):
    """Images listed in a COCO json file (mmdet/datasets/coco.py)."""

    data_root: str = "data/coco"
    """The folder that `ann_file` and `img_prefix` are in."""
    ann_file: str = field()
    """The json file, seen from `data_root`."""
    img_prefix: str = field()
    """The folder of the images, seen from `data_root`; a `file_name` of the json is seen from there."""
    classes: tuple[str, ...] = COCO_CLASSES
    """The categories to learn, by name. The file may hold more: their objects are left out."""
    filter_empty_gt: bool = False
    """Leave out images without objects of `classes`."""
    min_size: int = field(default=0, validator=validators.ge(0))
    """Leave out images whose shorter side is below this, in pixels."""
    drop_invalid: bool = False
    """Go on without what is faulty (absent images, boxes outside their image ...) and report it, instead of
    stopping."""

    def dataset(self, *, with_mask: bool = False) -> Dataset:
        raise NotImplementedError
