"""Bring dicts that are arranged otherwise into the shape of detcfg's classes, before their keys are read."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isabstract
from typing import Any, Final

from detcfg.config.base import Config
from detcfg.config.types import field_types
from detcfg.interop.mmdet.data import Node, is_list, is_tuple
from detcfg.interop.mmdet.pretrained import pretrained_of


def prepared(node: Node, cls: type[Config]) -> Node:
    """The dict, changed in location, as `cls` wants it."""
    for base in reversed(cls.__mro__):
        if step := STEPS.get(base.__name__):
            step(node, cls)
    return node


def _preprocessor(node: Node, _: type[Config]) -> None:
    """`bgr_to_rgb` says what the network sees, for MMDetection reads images as BGR."""
    swapped = bool(node.get("bgr_to_rgb") or node.get("rgb_to_bgr"))
    node.put("channel_order", "rgb" if swapped else "bgr", node.locations.get("bgr_to_rgb"))
    if node.get("mean", ()) is None:
        node.drop("mean")
    if node.get("std", ()) is None:
        node.drop("std")


def _backbone(node: Node, cls: type[Config]) -> None:
    """The two ways to name pretrained weights become one."""
    source: Any = node.get("pretrained")
    key = "pretrained"
    location = node.locations.get(key)
    init: Any = node.get("init_cfg")
    if isinstance(init, Node) and init.get("type") == "Pretrained":
        source, key = init.get("checkpoint"), "init_cfg"
        location = init.locations.get("checkpoint")
    if not isinstance(source, str):
        return
    name = pretrained_of(source, cls.__name__)
    if name is not None:
        node.drop(key)
        node.put("pretrained", name, location)


def _detector(node: Node, cls: type[Config]) -> None:
    """A list of necks is one neck here."""
    neck: Any = node.get("neck")
    if (is_list(neck) or is_tuple(neck)) and ("neck" in field_types(cls) or isabstract(cls)):
        if len(neck) == 1:
            node["neck"] = neck[0]
        else:
            node["neck"] = Node({"type": "SequentialNeck", "necks": list(neck)})
            node["neck"].locations = dict.fromkeys(("type", "necks"), node.locations.get("neck"))


def _rois(node: Node, _: type[Config]) -> None:
    """2.x wrote an extractor's layer with a `type` and no more."""
    size: Any = node.get("output_size")
    if (is_list(size) or is_tuple(size)) and size and all(item == size[0] for item in size):
        node["output_size"] = size[0]


def _proposals(node: Node, _: type[Config]) -> None:
    """`nms_thr` of the first 2.x versions is the threshold of plain NMS."""
    if "nms_thr" in node and "nms" not in node:
        node.put(
            "nms", Node({"type": "nms", "iou_threshold": node["nms_thr"]}), node.locations.get("nms_thr")
        )
    if "nms_thr" in node:
        node.drop("nms_thr")


def _strides(node: Node, cls: type[Config]) -> None:
    """Heads of points name the strides that they get from the neck."""
    for key in ("strides", "point_strides", "featmap_strides"):
        if key in node and key not in field_types(cls) and not hasattr(cls, key):
            node.put("in_strides", node[key], node.locations.get(key))
            node.drop(key)


def _cosine(node: Node, _: type[Config]) -> None:
    """Whatever `type` the predictor of FCOS's classes has, MMDetection builds the convolution."""
    predictor: Any = node.get("cls_predictor_cfg")
    if isinstance(predictor, Node) and "type" in predictor:
        predictor["type"] = "NormedConv2d"


def _pyramid(node: Node, _: type[Config]) -> None:
    """True is the older way to say "on_input"."""
    if node.get("add_extra_convs") is True:
        node["add_extra_convs"] = "on_input"


def _adaptive(node: Node, _: type[Config]) -> None:
    """The kind of adaptive convolution is a value here, not a class."""
    adapt: Any = node.get("adapt_cfg")
    if isinstance(adapt, Node) and "type" in adapt:
        location = adapt.locations.get("type")
        adapt.put("adapt_type", adapt.drop("type"), location)


def _staged(node: Node, _: type[Config]) -> None:
    """Here each stage of the head holds its settings of training."""
    settings, stages = node.get("train_cfg"), node.get("stages")
    if is_list(settings) and is_list(stages) and len(settings) == len(stages):
        location = node.locations.get("train_cfg")
        node.drop("train_cfg")
        for stage, stage_settings in zip(stages, settings, strict=True):
            if isinstance(stage, Node):
                stage.put("train_cfg", stage_settings, location)


def _iou_loss(node: Node, _: type[Config]) -> None:
    """`linear=True` is the older way to say mode="linear"."""
    if node.get("linear") is True and "mode" not in node:
        location = node.locations.get("linear")
        node.drop("linear")
        node.put("mode", "linear", location)


def _two_passes(node: Node, _: type[Config]) -> None:
    """The assigners of the first and the second set of points: `train_cfg.init` and `train_cfg.refine`."""
    settings: Any = node.get("train_cfg")
    for name in ("init", "refine") if isinstance(settings, Node) else ():
        inner: Any = settings.get(name)
        if isinstance(inner, Node) and "assigner" in inner:
            node.take(f"{name}_assigner", inner, inner["assigner"], "assigner")
            inner.drop("assigner")
            if name == "refine":
                settings.drop(name)
                for key in ("allowed_border", "pos_weight", "debug"):
                    if key in inner:
                        settings.take(key, inner, inner[key])


def _enlarged(node: Node, _: type[Config]) -> None:
    """`upsample_cfg=dict(type=None)` is the way to say None."""
    upsample: Any = node.get("upsample_cfg")
    if isinstance(upsample, Node) and upsample.get("type", "deconv") is None:
        node["upsample_cfg"] = None


def _aligned(node: Node, _: type[Config]) -> None:
    """The exponents of the alignment belong to its assigner."""
    settings: Any = node.get("train_cfg")
    assigner: Any = settings.get("assigner") if isinstance(settings, Node) else None
    for key in ("alpha", "beta") if isinstance(assigner, Node) else ():
        if key in settings and key not in assigner:
            assigner.take(key, settings, settings[key])
            settings.drop(key)


STEPS: Final[dict[str, Callable[[Node, type[Config]], None]]] = {
    "DetDataPreprocessorConfig": _preprocessor,
    "BackboneConfig": _backbone,
    "DetectorConfig": _detector,
    "RoILayerConfig": _rois,
    "DenseTestConfig": _proposals,
    "DenseHeadConfig": _strides,
    "FCOSHeadConfig": _cosine,
    "FPNConfig": _pyramid,
    "CascadeRPNHeadConfig": _staged,
    "IoULossConfig": _iou_loss,
    "FCNMaskHeadConfig": _enlarged,
    "RepPointsHeadConfig": _two_passes,
    "TOODHeadConfig": _aligned,
    "StageCascadeRPNHeadConfig": _adaptive,
}
"""By the name of a config class; they hold for its subclasses too, the base's first."""
