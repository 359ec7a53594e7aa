"""Which config class stands for which `type` of MMDetection: by name, so that none has to be listed."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Final

from attrs import frozen

from detcfg.catalogue import components
from detcfg.config.base import Config
from detcfg.interop.mmdet.data import TypeName

SINGLE_STAGE: Final = (
    "RetinaNet FCOS ATSS GFL PAA VFNet TOOD DDOD FSAF FOVEA AutoAssign YOLOF RepPointsDetector NASFCOS "
    "YOLOV3 YOLOX RTMDet CenterNet"
)
"""Detectors that are a single-stage detector under another name."""
TWO_STAGE: Final = "FasterRCNN CascadeRCNN TridentFasterRCNN SparseRCNN QueryInst"

OTHER_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(SINGLE_STAGE.split(), ("SingleStageDetector",)),
    **dict.fromkeys(TWO_STAGE.split(), ("TwoStageDetector",)),
    "MaskRCNN": ("FasterRCNN", "TwoStageDetector"),
    **dict.fromkeys(("HybridTaskCascade", "SCNet"), ("CascadeRCNN",)),
    **dict.fromkeys(("MaskScoringRCNN", "PointRend"), ("MaskRCNN",)),
    "GridRCNN": ("FasterRCNN",),
    "SOLO": ("SingleStageInstanceSegmentor",),
    "SOLOv2": ("SingleStageInstanceSegmentor",),
    "BBoxHead": ("ConvFCBBoxHead",),
    "FocalCustomLoss": ("FocalLoss",),
    "DetectoRS_ResNet": ("DetectoRSResNet",),
    "DetectoRS_ResNeXt": ("DetectoRSResNeXt",),
    "nms": ("NMS",),
    "soft_nms": ("SoftNMS",),
    "BN1d": ("BN",),
    "BN2d": ("BN",),
    "MMSyncBN": ("SyncBN",),
    "IN": ("InstanceNorm",),
    "Conv": ("Conv2d",),
    "Swish": ("SiLU",),
    "HSwish": ("Hardswish",),
    "HSigmoid": ("Hardsigmoid",),
    "nearest": ("NearestUpsample",),
    "bilinear": ("BilinearUpsample",),
    "deconv": ("DeconvUpsample",),
    "carafe": ("CARAFEUpsample",),
    "FPN_CARAFE": ("FPNCARAFE",),
}
"""`type`s of MMDetection whose class is called otherwise here; the name itself goes first."""


@frozen
class Index:
    """Config classes by name."""

    classes: Mapping[str, tuple[type[Config], ...]]
    names: frozenset[str] = frozenset()
    """Of these and of the classes that components are derived from."""

    def find(self, name: object, declared: tuple[type[Config], ...]) -> type[Config] | None:
        """The class for a `type`, among those that a field takes."""
        if not isinstance(name, str):
            return None
        short = short_name(name)
        for candidate in (short, *OTHER_NAMES.get(short, ())):
            for cls in self.classes.get(f"{candidate}Config", ()):
                if not declared or issubclass(cls, declared):
                    return cls
        return None

    def elsewhere(self, name: str) -> type[Config] | None:
        """The class for a `type`, whatever kind of component it is."""
        return self.find(name, ())


def index(modules: Collection[str] = ()) -> Index:
    """The components of detcfg and of `modules`.

    Raises:
        ConfigError: A module cannot be imported.
    """
    return _index(tuple(modules))


@cache
def _index(modules: tuple[str, ...]) -> Index:
    components(modules)  # imports them
    homes = ("detcfg", *modules)
    found: dict[str, list[type[Config]]] = {}
    names: set[str] = set()
    for cls in _subclasses(Config):
        module = sys.modules.get(cls.__module__)
        in_home = any(cls.__module__ == home or cls.__module__.startswith(f"{home}.") for home in homes)
        if in_home:
            names.add(cls.__name__)
        # attrs makes a second class for the slots, and the first lives on until it is collected.
        if in_home and vars(module).get(cls.__name__) is cls and not inspect.isabstract(cls):
            found.setdefault(cls.__name__, []).append(cls)
    classes = {name: tuple(dict.fromkeys(classes)) for name, classes in found.items()}
    return Index(classes, frozenset(names))


def _subclasses(cls: type[Config]) -> Iterator[type[Config]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def short_name(name: str) -> str:
    """`ResNet` of `mmdet.ResNet` and of an imported class; another project's keeps its prefix."""
    if isinstance(name, TypeName):
        return name.short
    scope, _, rest = name.rpartition(".")
    return rest if scope in ("mmdet", "mmcv", "mmengine", "torch.nn", "") else name
