"""What of a source nobody has spoken of: values that would go lost without a word."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeGuard

from attrs import frozen

from detcfg.interop.mmdet.data import Location, Node, is_list, is_tuple
from detcfg.interop.mmdet.record import Record, Status
from detcfg.interop.mmdet.rules import RULES

READ_BY_RUNNER: Final = (
    "model",
    "train_dataloader",
    "val_dataloader",
    "test_dataloader",
    "train_cfg",
    "val_cfg",
    "test_cfg",
    "optim_wrapper",
    "param_scheduler",
    "val_evaluator",
    "test_evaluator",
    "default_hooks",
    "custom_hooks",
    "data_preprocessor",
    "auto_scale_lr",
    "randomness",
    "load_from",
    "resume",
    "env_cfg",
    "visualizer",
    "log_processor",
    "tta_model",
    "custom_imports",
)
"""The variables of a config that MMDetection's runner reads; others are names for parts of these."""


MOVED: Final = {
    "strides": "in_strides",
    "point_strides": "in_strides",
    "checkpoint": "pretrained",
    "bgr_to_rgb": "channel_order",
    "linear": "mode",
    "nms_thr": "iou_threshold",
    "img": "img_prefix",
    "img_path": "img_prefix",
}
"""What `prepare` and `data_part` call otherwise."""


@frozen
class Unclaimed:
    """A value that no entry of the record is about."""

    path: str
    location: Location | None


def unclaimed(data: Node, record: Record) -> Iterator[Unclaimed]:
    """The values of a source in the 3.x dialect that no entry of the record is about.

    A value is known by where it was written and what it is called, for settings move from one dict to another
    on the way. What a variable puts into several dicts is claimed in all of them by one entry.
    """
    claims = _Claims(record)
    for key in READ_BY_RUNNER:
        if key in data:
            yield from claims.missing(data[key], key, str(key), data.locations.get(key))


class _Claims:
    def __init__(self, record: Record) -> None:
        self.known = {(entry.location, _name(entry.path)) for entry in record.entries}
        self.whole = {
            (entry.location, _name(entry.path))
            for entry in record.entries
            if entry.status is not Status.CARRIED
        }
        """Dicts and lists that are done with, whatever is in them."""

    def missing(self, value: Any, key: object, path: str, location: Location | None) -> Iterator[Unclaimed]:
        """The leaves of `value` that nobody has claimed."""
        name = _name(str(key))
        if isinstance(value, Node):
            if (location, name) in self.whole or (value.locations.get("type"), name) in self.whole:
                return
            for inner, item in value.items():
                if inner not in ("type", "_delete_"):  # a type shows in what became of its siblings
                    yield from self.missing(item, inner, f"{path}.{inner}", value.locations.get(inner))
        elif is_nodes(value):
            if (location, name) not in self.whole:
                yield from self._items(value, path, location)
        elif value is not None and value != [] and not self._claimed(location, name):
            yield Unclaimed(path, location)

    def _items(
        self, items: list[Any] | tuple[Any, ...], path: str, location: Location | None
    ) -> Iterator[Unclaimed]:
        """Stages that are equal to the first are one with it."""
        lost: set[str] = set()
        for index, item in enumerate(items):
            for missed in self.missing(item, index, f"{path}.{index}", location):
                inner = missed.path.removeprefix(f"{path}.{index}")
                if index == 0:
                    lost.add(inner)
                elif inner not in lost and _at(item, inner) == _at(items[0], inner):
                    continue
                yield missed

    def _claimed(self, location: Location | None, name: str) -> bool:
        return (location, name) in self.known or any(
            (location, other) in self.known for other in OTHER_NAMES.get(name, ())
        )


def is_nodes(value: Any) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    """Whether a value is a list with dicts in it."""
    return (is_list(value) or is_tuple(value)) and any(isinstance(item, Node) for item in value)


def _name(path: str) -> str:
    """The last part of a path; all items of a list are called the same, for lists are put together."""
    name = path.rpartition(".")[2]
    return "0" if name.isdecimal() else name


def _at(value: Any, path: str) -> Any:
    for name in path.split(".")[1:]:
        if isinstance(value, Node):
            value = value.get(name)
        elif is_list(value) or is_tuple(value):
            value = value[int(name)] if int(name) < len(value) else None
        else:
            return None
    return value


def _other_names() -> dict[str, set[str]]:
    """What values are called elsewhere, by the last part of MMDetection's name."""
    found: dict[str, set[str]] = {old: {new} for old, new in MOVED.items()}
    for rule in RULES.values():
        for old, new in rule.renamed.items():
            found.setdefault(_name(old), set()).add(_name(new))
    return found


OTHER_NAMES: Final = _other_names()
