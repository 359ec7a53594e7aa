"""Values that MMDetection's configs repeat and detcfg derives: left out where they come out the same."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from attrs import evolve, frozen

from detcfg.config.base import Config, ConfigError
from detcfg.config.types import field_types, matches
from detcfg.detectors.base import DetectorConfig
from detcfg.interop.mmdet.data import Place
from detcfg.interop.mmdet.record import Record

C = TypeVar("C", bound=Config)


@frozen(kw_only=True)
class GivenValue:
    """A value that the source gives to a field that detcfg derives."""

    path: str
    """Of the field in detcfg."""
    value: Any
    source: str
    place: Place | None


def settled(
    config: DetectorConfig, given: Sequence[GivenValue], record: Record, num_classes: int | None
) -> DetectorConfig:
    """The config with those of the given values that do not come out by themselves.

    Raises:
        ConfigError: It contradicts itself with them as without.
    """
    waiting = {value.path: value for value in given}
    resolved: Config | None = None
    while resolved is None:
        try:
            resolved = _with_classes(config, num_classes).resolved()
        except ConfigError as error:
            wanted = _open_field(str(error), waiting)
            if wanted is None:
                raise
            config = replaced(config, wanted, waiting.pop(wanted).value)
    for value in waiting.values():
        if _agrees(at(resolved, value.path), value.value):
            record.carried(value.source, value.place, f"{value.path}, which follows from the rest")
            continue
        own = replaced(config, value.path, value.value)
        try:
            _with_classes(own, num_classes).resolved()
        except ConfigError as error:
            record.unsupported(value.source, value.place, str(error))
        else:
            record.carried(value.source, value.place, value.path)
            config = own
    return config


def completed(
    config: DetectorConfig,
    given: Sequence[GivenValue],
    prefixes: tuple[str, ...],
    fallbacks: Mapping[str, object],
) -> DetectorConfig:
    """A config with stubs, which derive nothing for what is in them: that gets the source's values.

    Args:
        config: With stubs.
        given: The source's values of derived fields.
        prefixes: Paths of the stubs.
        fallbacks: Values that the source does not say, by the end of the field's path.
    """
    waiting = {value.path: value.value for value in given}
    for path, value in waiting.items():
        if any(path.startswith(f"{prefix}.") if prefix else True for prefix in prefixes):
            config = _replaced_if_taken(config, path, value)
    for _ in range(100):
        try:
            _with_classes(config, cast("int", fallbacks.get("num_classes", 1))).resolved()
        except ConfigError as error:
            found = re.match(r"([\w.]+) is derived, and nothing", str(error))
            path = found[1] if found else ""
            ends = [end for end in fallbacks if path == end or path.endswith(f".{end}")]
            if path not in waiting and not ends:
                return config  # the person has to say it
            value = waiting[path] if path in waiting else fallbacks[max(ends, key=len)]
            changed = _replaced_if_taken(config, path, value)
            if changed is config:
                return config
            config = changed
        except (NotImplementedError, TypeError):
            return config
        else:
            return config
    return config


def _replaced_if_taken(config: DetectorConfig, path: str, value: object) -> DetectorConfig:
    """The config with one value changed, if there is a field at the path that takes it."""
    owner = at(config, path.rpartition(".")[0]) if "." in path else config
    name = path.rpartition(".")[2]
    annotation = field_types(type(owner)).get(name) if isinstance(owner, Config) else None
    return replaced(config, path, value) if matches(value, annotation) and annotation else config


def _agrees(found: object, given: object) -> bool:
    """Whether a value is the given one, which may stand for all levels."""
    if isinstance(found, tuple) and isinstance(given, tuple):
        values = cast("tuple[object, ...]", given)
        levels = cast("tuple[object, ...]", found)
        one = len(values) == 1 and levels and (set(levels) == set(values) or levels[-1] == values[0])
        return levels == values or bool(one)
    return found == given


def _with_classes(config: DetectorConfig, num_classes: int | None) -> DetectorConfig:
    return config if num_classes is None else evolve(config, num_classes=num_classes)


def _open_field(message: str, waiting: dict[str, GivenValue]) -> str | None:
    """The field that waits for its value, if the source has it."""
    found = re.match(r"([\w.]+) is derived, and nothing", message)
    if found and found[1] in waiting:
        return found[1]
    return None


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
        index, _, rest = rest.partition(".")
        items = list(cast("tuple[object, ...]", old))
        items[int(index)] = replaced(cast("Config", items[int(index)]), rest, value) if rest else value
        return evolve(config, **{name: tuple(items)})
    return evolve(config, **{name: replaced(cast("Config", old), rest, value)})
