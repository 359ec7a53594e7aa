"""What a model's parts say about their neighbours: the channels and strides of a part that detcfg lacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from detcfg.interop.mmdet.data import Node, is_list, is_tuple

MAX_LEVELS: Final = 32
"""Of a pyramid. What says that it has more is a slip, and would cost its number in memory."""

Hints = Mapping[str, Mapping[str, tuple[int, ...]]]


def hints(model: Node) -> Hints:
    """`feature_channels` and `feature_strides` of the backbone and the neck, by path."""
    neck: Any = model.get("neck")
    necks: list[Any] = list(neck) if (is_list(neck) or is_tuple(neck)) and neck else [neck]
    first, last = necks[0], necks[-1]
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    channels = _numbers(first.get("in_channels")) if isinstance(first, Node) else ()
    if channels:
        start = 4 if len(channels) >= 4 else 8 if len(channels) == 3 else 32
        found["model.backbone"] = {
            "feature_channels": channels,
            "feature_strides": _doubling(start, channels),
        }
    if isinstance(last, Node) and type(last.get("out_channels")) is int:
        strides = _head_strides(model)
        given: Any = last.get("num_outs")
        count: int = given if type(given) is int else len(strides) or len(channels)
        if 0 < count <= MAX_LEVELS:
            width = (last["out_channels"],) * count
            if len(strides) != count:
                strides = _doubling(4 if "roi_head" in model else 8, width)
            found["model.neck"] = {"feature_channels": width, "feature_strides": strides}
    return found


def fallbacks(model: Node, num_classes: int | None) -> dict[str, object]:
    """What a stub's parts may be given where nobody derives it, by the end of the field's path."""
    known = hints(model)
    backbone = known.get("model.backbone", {})
    neck = known.get("model.neck", backbone)
    found: dict[str, object] = {"num_classes": num_classes, "roi_feat_size": 7, "mask_head.roi_feat_size": 14}
    if backbone:
        found["neck.in_channels"] = backbone["feature_channels"]
        found["neck.in_strides"] = backbone["feature_strides"]
    if neck:
        found |= {"in_strides": neck["feature_strides"], "strides": neck["feature_strides"]}
        found["featmap_strides"] = tuple(stride for stride in neck["feature_strides"] if stride <= 32)
        found |= {"in_channels": neck["feature_channels"][0], "out_channels": neck["feature_channels"][0]}
    return {name: value for name, value in found.items() if value is not None}


def _numbers(value: Any) -> tuple[int, ...]:
    values: list[Any] = list(value) if is_list(value) or is_tuple(value) else []
    return tuple(values) if len(values) <= MAX_LEVELS and all(type(item) is int for item in values) else ()


def _doubling(first: int, levels: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(first * 2**level for level in range(len(levels)))


def _head_strides(model: Node) -> tuple[int, ...]:
    """What the first stage or the dense head says about its levels."""
    for name in ("rpn_head", "bbox_head", "mask_head"):
        head: Any = model.get(name)
        if isinstance(head, Node):
            generator: Any = head.get("anchor_generator", head.get("prior_generator"))
            strides = generator.get("strides") if isinstance(generator, Node) else head.get("strides")
            return _numbers(strides)
    return ()
