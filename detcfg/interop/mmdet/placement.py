"""Put settings where detcfg keeps them: those of training and testing into the heads that use them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard, cast

from detcfg.interop.mmdet.data import Location, Node, cloned, is_list, is_tuple

TRAIN, TEST = "train_cfg", "test_cfg"


def placed(model: Node) -> Node:
    """A copy of the `model` dict in which each head has the `train_cfg` and `test_cfg` that are its.

    Follows the constructors of mmdet/models/detectors.
    """
    made = cast("Node", cloned(model))
    train, test = _taken(made, TRAIN), _taken(made, TEST)
    if "roi_head" in made or "rpn_head" in made:
        _give(made, "rpn_head", train, test, "rpn")
        _give(made, "roi_head", train, test, "rcnn")
        proposal = train[0].get("rpn_proposal") if isinstance(train[0], Node) else None
        if isinstance(made.get("rpn_head"), Node) and isinstance(proposal, Node):
            made["rpn_head"].put("rpn_proposal", proposal, proposal_place(train[0]))
        return made
    for name in ("bbox_head", "mask_head", "panoptic_head", "panoptic_fusion_head", "segm_head"):
        _give(made, name, train, test, None)
    return made


def proposal_place(train: Any) -> Location | None:
    """Where `rpn_proposal` was written."""
    return train.locations.get("rpn_proposal") if isinstance(train, Node) else None


def _taken(node: Node, name: str) -> tuple[Any, Location | None]:
    location = node.locations.get(name)
    return (node.drop(name) if name in node else None), location


def _give(
    model: Node,
    head: str,
    train: tuple[Any, Location | None],
    test: tuple[Any, Location | None],
    key: str | None,
) -> None:
    node: Any = model.get(head)
    if not isinstance(node, Node):
        return
    for name, (settings, location) in ((TRAIN, train), (TEST, test)):
        part: Any = settings
        if key is not None and isinstance(settings, Node):
            part, location = settings.get(key), settings.locations.get(key, location)  # noqa: PLW2901
        elif key is not None and settings is not None:
            continue
        if part is not None and name not in node:
            node.put(name, cloned(part), location)


def spread(node: Node, fields: set[str]) -> list[tuple[str, Any, Location | None]]:
    """Move the items of `train_cfg` that are fields of the head itself into it; return the others.

    A part of the head (its mask head, its point head) takes what is left if it has such a field.
    """
    settings: Any = node.get(TRAIN)
    if is_sequence(settings) and settings and all(isinstance(stage, Node) for stage in settings):
        settings = transposed(list(settings))
    if TRAIN in fields or not isinstance(settings, Node):
        return []
    node.drop(TRAIN)
    left: list[tuple[str, Any, Location | None]] = []
    for key, value in settings.items():
        if key in fields and key not in node:
            node.take(key, settings, value)
        else:
            left.append((str(key), value, settings.locations.get(key)))
    return left


def transposed(stages: list[Node]) -> Node:
    """The settings of each stage as one dict of lists, or of what all stages have."""
    made = Node()
    for key in dict.fromkeys(key for stage in stages for key in stage):
        values = [stage.get(key) for stage in stages]
        first = next(stage for stage in stages if key in stage)
        same = all(value == values[0] for value in values)
        made.put(key, values[0] if same else values, first.locations.get(key))
    return made


def is_sequence(value: object) -> TypeGuard[Sequence[Any]]:
    """A list or a tuple."""
    return is_list(value) or is_tuple(value)
