"""Data in Pascal VOC's format: one XML file an image."""

from __future__ import annotations

from attrs import field, frozen, validators

from detcfg.data.base import Dataset, DatasetConfig
from detcfg.data.classes import VOC_CLASSES


@frozen(kw_only=True)
class VOCDatasetConfig(DatasetConfig):
    """Images listed in an ImageSets file, each with an XML file (mmdet/datasets/xml_style.py)."""

    data_root: str = "data/VOCdevkit/VOC2007"
    """The folder that everything below is in."""
    ann_file: str = "ImageSets/Main/trainval.txt"
    """The names of the images, one a line."""
    img_subdir: str = "JPEGImages"
    ann_subdir: str = "Annotations"
    classes: tuple[str, ...] = VOC_CLASSES
    """The classes to learn. Objects of other names are left out."""
    minus_one: bool = True
    """Take 1 from every coordinate, as MMDetection does: the pixels of VOC count from 1. Set it to false
    for files of tools that count from 0."""
    filter_empty_gt: bool = False
    """Leave out images without objects of `classes`."""
    min_size: int = field(default=0, validator=validators.ge(0))
    """Leave out images whose shorter side is below this, in pixels."""
    drop_invalid: bool = False
    """Go on without what is faulty (absent images, boxes outside their image ...) and report it, instead of
    stopping."""

    def dataset(self, *, with_mask: bool = False) -> Dataset:
        raise NotImplementedError
