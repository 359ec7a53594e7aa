"""Data of LVIS (Gupta et al., 2019, https://arxiv.org/abs/1908.03195)."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from detcfg.data.coco import CocoDatasetConfig, Record
from detcfg.data.lvis_classes import LVIS_V1_CLASSES

_HOSTS: Final = ("http://images.cocodataset.org/", "https://images.cocodataset.org/")


@frozen(kw_only=True)
class LVISV1DatasetConfig(CocoDatasetConfig):
    """LVIS version 1: 1203 classes on COCO's images (mmdet/datasets/lvis.py).

    It is judged by LVIS's rules: each image only for the classes that it is known to have or not to have,
    with 300 detections.
    """

    ann_file: str = "annotations/lvis_v1_train.json"
    """The annotations, relative to the root."""
    img_prefix: str = "."
    """The folder of `train2017` and `val2017`: either split has images of both."""
    classes: tuple[str, ...] = LVIS_V1_CLASSES
    """The names of the classes, by label."""

    def file_name(self, image: Record) -> object:
        """`train2017/000000391895.jpg`, out of the address, since LVIS gives no `file_name`."""
        address = image.get("coco_url")
        if not isinstance(address, str):
            return super().file_name(image)
        for host in _HOSTS:
            address = address.removeprefix(host)
        return address
