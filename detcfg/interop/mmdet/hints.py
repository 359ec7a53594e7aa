"""What a model's parts say about their neighbours: the channels and strides of a part that detcfg lacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from detcfg.interop.mmdet.data import Node, is_list, is_tuple

MAX_LEVELS: Final = 32
"""Of a pyramid. What says that it has more is a slip, and would cost its number in memory."""
HEADS: Final = ("rpn_head", "bbox_head", "mask_head")
"""Whose first one says what the feature maps are."""

Features = Mapping[str, tuple[int, ...]]
"""`feature_channels` and `feature_strides`, finest first."""


def hints(model: Node, path: str = "model") -> dict[str, Features]:
    """What the backbones and the necks give, by path; of a detector inside another one too."""
    found: dict[str, Features] = {}
    for inner, detector in _detectors(model, path):
        found |= {f"{inner}.{part}": features for part, features in _features(detector).items()}
    return found


def guesses(model: Node, path: str) -> dict[str, object]:
    """What a derived field at a path may be given where nobody derives it, by the end of the path.

    Args:
        model: The source's.
        path: Of the field, seen from the model.
    """
    known = _features(_around(model, path))
    backbone = known.get("backbone", {})
    neck = known.get("neck", backbone)
    found: dict[str, object] = {"roi_feat_size": 7, "mask_head.roi_feat_size": 14}
    if backbone:
        found["neck.in_channels"] = backbone["feature_channels"]
        found["neck.in_strides"] = backbone["feature_strides"]
    if neck:
        found |= {"in_strides": neck["feature_strides"], "strides": neck["feature_strides"]}
        found["featmap_strides"] = tuple(stride for stride in neck["feature_strides"] if stride <= 32)
        found |= {"in_channels": neck["feature_channels"][0], "out_channels": neck["feature_channels"][0]}
    return found


def _detectors(node: Any, path: str) -> Iterator[tuple[str, Node]]:
    """The dicts that have a backbone, with their paths."""
    if not isinstance(node, Node):
        return
    if "backbone" in node:
        yield path, node
    for key, value in node.items():
        yield from _detectors(value, f"{path}.{key}")


def _around(model: Node, path: str) -> Node:
    """The innermost dict on the way to a path that has a backbone."""
    found, node = model, model
    for name in path.split("."):
        inner: Any = node.get(name)
        if not isinstance(inner, Node):
            break
        node = inner
        found = node if "backbone" in node else found
    return found


def _features(detector: Node) -> dict[str, Features]:
    neck: Any = detector.get("neck")
    necks: list[Any] = list(neck) if (is_list(neck) or is_tuple(neck)) and neck else [neck]
    first, last = necks[0], necks[-1]
    channels, strides = _read_by_heads(detector)
    if not isinstance(first, Node) or not isinstance(last, Node):
        return _one("backbone", channels, strides)
    given: Any = last.get("num_outs")
    out: Any = last.get("out_channels")
    entering = _numbers(first.get("in_channels"))
    if type(out) is int:
        count = given if type(given) is int else len(strides) or len(entering)
        channels = (out,) * count if 0 < count <= MAX_LEVELS else ()
    else:
        channels = _numbers(out) or channels
    if len(strides) != len(channels):
        strides = _doubling(4 if "roi_head" in detector else 8, channels)
    level: Any = first.get("start_level", 0)
    finest = min(strides, default=0) >> level if type(level) is int and 0 <= level < MAX_LEVELS else 0
    if entering[:1] > entering[-1:]:  # some necks name what they read coarsest first
        entering = entering[::-1]
    start = finest or (4 if len(entering) >= 4 else 8 if len(entering) == 3 else 32)
    return _one("backbone", entering, _doubling(start, entering)) | _one("neck", channels, strides)


def _one(part: str, channels: tuple[int, ...], strides: tuple[int, ...]) -> dict[str, Features]:
    """What a part gives, finest first, if that is known."""
    if not channels or len(channels) != len(strides):
        return {}
    if strides[0] > strides[-1]:
        channels, strides = channels[::-1], strides[::-1]
    return {part: {"feature_channels": channels, "feature_strides": strides}}


def _numbers(value: Any) -> tuple[int, ...]:
    values: list[Any] = list(value) if is_list(value) or is_tuple(value) else []
    return tuple(values) if len(values) <= MAX_LEVELS and all(type(item) is int for item in values) else ()


def _doubling(first: int, levels: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(first * 2**level for level in range(len(levels)))


def _read_by_heads(detector: Node) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The channels and strides that the first stage or the dense head says its levels have."""
    head: Any = next((detector[name] for name in HEADS if isinstance(detector.get(name), Node)), Node())
    generator: Any = head.get("anchor_generator", head.get("prior_generator"))
    given: Any = generator.get("strides") if isinstance(generator, Node) else head.get("strides")
    strides = _numbers(given) or _numbers([_of_pair(item) for item in given] if is_list(given) else None)
    channels: Any = head.get("in_channels")
    return (channels,) * len(strides) if type(channels) is int else _numbers(channels), strides


def _of_pair(value: Any) -> Any:
    """The number of a pair of equal ones."""
    values = _numbers(value)
    return values[0] if len(set(values)) == 1 else None
