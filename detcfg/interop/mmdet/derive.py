"""Values that MMDetection's configs repeat and detcfg derives: left out where they come out the same."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import attrs
from attrs import evolve, frozen

from detcfg.config.base import UNSET, Config
from detcfg.config.types import field_types, matches
from detcfg.detectors.base import DetectorConfig
from detcfg.errors import DetcfgError
from detcfg.interop.mmdet.data import Location
from detcfg.interop.mmdet.record import Record
from detcfg.interop.mmdet.stubs import is_stub

C = TypeVar("C", bound=Config)


@frozen(kw_only=True)
class GivenValue:
    """A value that the source gives to a field that detcfg derives."""

    path: str
    """Of the field in detcfg."""
    value: Any
    source: str
    location: Location | None


def settled(
    config: DetectorConfig,
    given: Sequence[GivenValue],
    record: Record,
    num_classes: int | None,
    guess: Callable[[str], object] | None = None,
) -> DetectorConfig:
    """The config with those of the given values that do not come out by themselves.

    Args:
        config: In the given state.
        given: The source's values of derived fields.
        record: Where it is said what became of them.
        num_classes: Of the data.
        guess: For a model with stubs, which derive nothing for what is in them: a value for a field there that
            the source says nothing of; None if nothing is known.

    Raises:
        ConfigError: It contradicts itself with them as without, and there are no stubs that may be to blame.
    """
    waiting = {value.path: value for value in given}
    if guess is not None:
        num_classes = num_classes or 1
        config = _filled(config, waiting, record, guess)
    resolved: Config | None = None
    while resolved is None:
        try:
            resolved = _with_classes(config, num_classes).resolved()
        except DetcfgError as error:
            found = re.match(r"([\w.]+) is derived, and nothing", str(error))
            told = waiting.pop(found[1], None) if found else None
            if told is None and guess is None:
                raise
            if told is None:
                break  # the person who fills in the stubs has to say it
            record.carried(told.source, told.location, told.path)
            config = _replaced_if_taken(config, told.path, told.value)
    left, in_a_row = deque(waiting.values()), 0
    while left:
        told = left.popleft()
        if resolved is None or _agrees(at(resolved, told.path), told.value):
            record.carried(told.source, told.location, f"{told.path}, which follows from the rest")
            continue
        changed = _replaced_if_taken(config, told.path, told.value)
        if changed is config:
            record.unsupported(told.source, told.location, f"{told.path} follows from the rest, otherwise")
            continue
        try:
            resolved = _with_classes(changed, num_classes).resolved()
        except DetcfgError as error:
            in_a_row += 1
            if in_a_row <= len(left):
                left.append(told)  # it may go with the others
            else:
                record.unsupported(told.source, told.location, str(error))
        else:
            record.carried(told.source, told.location, told.path)
            config, in_a_row = changed, 0
    return config


def _filled(
    config: DetectorConfig,
    waiting: dict[str, GivenValue],
    record: Record,
    guess: Callable[[str], object],
) -> DetectorConfig:
    """The config where what is directly in a stub has its values, those of the source before others."""
    heads = list(waiting.values())
    for path in list(_open(config, "", in_stub=False)):
        told = waiting.pop(path, None)
        owner, _, name = path.rpartition(".")
        if told is not None:
            record.carried(told.source, told.location, path)
            value: object = told.value
        elif name == "num_classes":
            inner = [head for head in heads if head.path.startswith(f"{owner}.")]
            value = max((head.value for head in inner if head.path.endswith(f".{name}")), default=None)
        else:
            value = guess(path)
        config = _replaced_if_taken(config, path, value)
    return config


def _open(value: object, path: str, *, in_stub: bool) -> Iterator[str]:
    """The unset fields of the configs that are directly in stubs."""
    if isinstance(value, tuple):
        for index, item in enumerate(cast("tuple[object, ...]", value)):
            yield from _open(item, f"{path}.{index}", in_stub=in_stub)
    elif isinstance(value, Config):
        for name in attrs.fields_dict(type(value)):
            inner: object = getattr(value, name)
            here = f"{path}.{name}" if path else name
            if inner is UNSET and in_stub:
                yield here
            yield from _open(inner, here, in_stub=is_stub(type(value)))


def _replaced_if_taken(config: DetectorConfig, path: str, value: object) -> DetectorConfig:
    """The config with one value changed, if there is a field at the path that takes it."""
    owner = at(config, path.rpartition(".")[0]) if "." in path else config
    name = path.rpartition(".")[2]
    annotation = field_types(type(owner)).get(name) if isinstance(owner, Config) else None
    return replaced(config, path, value) if annotation and matches(value, annotation) else config


def _agrees(found: object, given: object) -> bool:
    """Whether a value is the given one, which may stand for all levels."""
    if isinstance(found, tuple) and isinstance(given, tuple):
        values = cast("tuple[object, ...]", given)
        levels = cast("tuple[object, ...]", found)
        one = len(values) == 1 and levels and (set(levels) == set(values) or levels[-1] == values[0])
        return levels == values or bool(one)
    if isinstance(given, tuple):
        return set(cast("tuple[object, ...]", given)) == {found}
    return found == given


def _with_classes(config: DetectorConfig, num_classes: int | None) -> DetectorConfig:
    return config if num_classes is None else evolve(config, num_classes=num_classes)


def at(config: object, path: str) -> Any:
    """The value at a path; None where there is nothing."""
    for name in path.split("."):
        if isinstance(config, tuple):
            items = cast("tuple[object, ...]", config)
            if not name.isdecimal():  # one for all stages, which resolve into one each
                config = getattr(items[0], name, None) if items else None
            else:
                config = items[int(name)] if int(name) < len(items) else None
        else:
            config = getattr(config, name, None)
    return config


def replaced(config: C, path: str, value: object) -> C:
    """The config with one value changed."""
    name, _, rest = path.partition(".")
    old: object = getattr(config, name)
    if not rest:
        return evolve(config, **{name: value})
    if isinstance(old, tuple):
        index, _, inner = rest.partition(".")
        if index.isdecimal():
            rest = inner
        else:  # one for all stages, which resolve into one each
            index = "0"
        items = list(cast("tuple[object, ...]", old))
        items[int(index)] = replaced(cast("Config", items[int(index)]), rest, value) if rest else value
        return evolve(config, **{name: tuple(items)})
    return evolve(config, **{name: replaced(cast("Config", old), rest, value)})
