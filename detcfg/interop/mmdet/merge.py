"""Merge a config into its base, as MMDetection does."""

from __future__ import annotations

from typing import Any, Final

from detcfg.interop.mmdet.data import Location, Node, ReadError, is_list, is_tuple, kind_of

DELETE: Final = "_delete_"
"""The key that lets a dict replace the base's instead of merging into it."""


def merged(child: Node, base: Node, location: Location) -> Node:
    """`base` with the values of `child`, which is the one that may ask to replace a dict.

    Args:
        child: What a config says.
        base: What its bases say; both are given over and may be changed.
        location: Where the child is written, for keys that have no location of their own.
    """
    for key, value in child.items():
        where = child.locations.get(key, location)
        base.put(key, _merged_value(key, value, base, where), where)
    return base


def _merged_value(key: Any, value: Any, base: Node, location: Location) -> Any:
    if not isinstance(value, Node) or key not in base:
        return value
    if value.pop(DELETE, False):
        return value
    old = base[key]
    if isinstance(old, Node):
        return merged(value, old, location)
    if is_list(old) and all(isinstance(index, str) and index.isdecimal() for index in value):
        return _merged_items(value, old, location)
    raise ReadError(
        f"{location}: {key} is a dict here and {kind_of(old)} in the base. Write _delete_=True into it to replace "
        "the base's."
    )


def _merged_items(child: Node, base: list[Any], location: Location) -> list[Any]:
    """A list whose items are changed by number: `{"0": dict(num_classes=20)}`."""
    for name, value in child.items():
        index = int(name)
        where = child.locations.get(name, location)
        if index >= len(base):
            raise ReadError(f"{where}: there is no item {index} in the base's list of {len(base)}.")
        holder = Node({name: base[index]})
        base[index] = _merged_value(name, value, holder, where)
    return base


def without_marks(value: Any) -> Any:
    """The value without the `_delete_` that had nothing to delete."""
    if isinstance(value, Node):
        if DELETE in value:
            value.drop(DELETE)
        for item in value.values():
            without_marks(item)
    elif is_list(value) or is_tuple(value):
        for item in value:
            without_marks(item)
    return value
