"""Frozen attrs classes that build the modules they describe.

A config passes through three states:

- *given*: what the code, a file or the command line says. Fields that depend on the
  surroundings, such as `in_channels`, are still `UNSET`.
- *resolved*: `config.resolved()`, where every field has its value, of its declared type.
- *built*: `config.build()`, the module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from difflib import get_close_matches
from enum import Enum
from inspect import get_annotations
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

import attrs
from attrs import evolve, frozen

from detcfg.config.types import adds_behaviour, field_types, mismatch
from detcfg.errors import DetcfgError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import nn


class ConfigError(DetcfgError):
    """A config contradicts itself, leaves a value open or holds a value of a wrong type.

    The message is written for the person who wrote the config: where, what, what was
    expected and what to do.
    """


class _Unset(Enum):
    UNSET = "derived"

    def __repr__(self) -> str:
        return "<derived>"


UNSET: Final = _Unset.UNSET


def derived() -> Any:
    """Declare a field whose value comes from the config around it.

    It is typed `Any` so that `in_channels: int = derived()` type-checks; no module ever
    sees `UNSET`, because `Config.resolved` refuses to leave any.

    >>> @frozen(kw_only=True)
    ... class NeckConfig(Config):
    ...     in_channels: int = derived()
    >>> NeckConfig()
    NeckConfig(in_channels=<derived>)
    >>> NeckConfig().resolved()
    Traceback (most recent call last):
    detcfg.config.base.ConfigError: NeckConfig.in_channels is derived, and nothing around it says what it is. Give it a value.
    """
    return attrs.field(default=UNSET)


def is_unset(value: object) -> bool:
    """Whether a derived field still waits for its value; for `wired` methods that can do without.

    >>> is_unset(UNSET), is_unset(None)
    (True, False)
    """
    return value is UNSET


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Say which of `choices` was probably meant by `name`, or list them all.

    >>> did_you_mean("epoch", ["epochs", "seed"])
    "Did you mean 'epochs'?"
    >>> did_you_mean("x", ["epochs", "seed"])
    'It has epochs, seed.'
    """
    choices = sorted(choices)
    near = nearest(name, choices)
    return f"It has {', '.join(choices) or 'none'}." if near is None else f"Did you mean {near!r}?"


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """Which of `choices` was probably meant by `name`; None if it is like none of them."""
    near = get_close_matches(name, sorted(choices), n=1, cutoff=0.6)
    return near[0] if near else None


def _inherited_fields(cls: type) -> set[str]:
    return {name for base in cls.__mro__[1:] if attrs.has(base) for name in attrs.fields_dict(base)}


@frozen(kw_only=True)
class Config:
    """Base of every config.

    The checks reject three slips that no type checker sees and that attrs takes without a
    word: a forgotten decorator, a forgotten annotation and a misspelt field.
    """

    def __attrs_pre_init__(self) -> None:
        if "__attrs_attrs__" not in vars(type(self)):
            raise TypeError(
                f"{type(self).__qualname__} is not decorated with @frozen(kw_only=True), "
                "so its fields would be ignored."
            )

    def __init_subclass__(cls) -> None:
        for name in sorted(_inherited_fields(cls) & vars(cls).keys() - get_annotations(cls).keys()):
            raise TypeError(
                f"{cls.__qualname__}.{name} needs an annotation (`{name}: … = …`), or attrs ignores it."
            )

    @classmethod
    def __attrs_init_subclass__(cls) -> None:
        inherited = _inherited_fields(cls)
        added = [name for name in attrs.fields_dict(cls) if name not in inherited]
        if inherited and added and not adds_behaviour(cls):
            near = get_close_matches(added[0], inherited, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{cls.__qualname__} adds the field {added[0]!r}, which nothing reads.{hint}")

    def wired(self) -> Self:
        """Fill in the derived fields of the configs directly inside this one.

        Two components are in scope only here, so this is also where to check that they fit
        each other.
        """
        return self

    def resolved(self) -> Self:
        """Return this config with every derived field filled in, all the way down.

        Raises:
            ConfigError: A value contradicts what surrounds it, is left open, or is not of
                its field's type. The message starts with the value's path.

        >>> @frozen(kw_only=True)
        ... class NeckConfig(Config):
        ...     out_channels: int = 256
        >>> NeckConfig().resolved()
        NeckConfig(out_channels=256)
        >>> NeckConfig(out_channels="256").resolved()
        Traceback (most recent call last):
        detcfg.config.base.ConfigError: NeckConfig.out_channels must be int, not '256'.
        """
        _check_tree(self)  # the whole of it first, so that `wired` may rely on the types
        resolved: Self = _resolve(self, ())
        return resolved


@frozen(kw_only=True)
class ModuleConfig(Config, ABC):
    """A config that builds an `nn.Module`."""

    @abstractmethod
    def build(self) -> nn.Module:
        """Build the module, by passing it `self.resolved()`."""


C = TypeVar("C", bound=Config)


class _ContradictionError(ConfigError):
    """A given value disagrees with the components around it; `_resolve` completes the paths."""

    def __init__(self, config: Config, name: str, given: object, source: str, value: object) -> None:
        super().__init__(
            f"{type(config).__name__}.{name} is {given!r}, but {source} makes it {value!r}. "
            f"Leave {name} out, or change one of the two."
        )
        self.config, self.name, self.given, self.source, self.value = config, name, given, source, value

    def located(self, owner: Config, path: tuple[str, ...]) -> ConfigError:
        """Write both fields as paths from the root, now that the owner's place is known."""
        found = [
            (names, inner)
            for names, inner in _configs(owner)
            if type(inner) is type(self.config) and getattr(inner, self.name) == self.given
        ]
        # `fill` may have been given a copy of the config that stands in its place.
        found.sort(key=lambda place: place[1] is not self.config)
        names = found[0][0] if found else (type(self.config).__name__,)
        holder = names[: -2 if names and names[-1].isdecimal() else -1]
        return ConfigError(
            f"{_join((*path, *names, self.name))} is {self.given!r}, "
            f"but {_join((*path, *holder, self.source))} makes it {self.value!r}. "
            f"Leave {self.name} out, or change one of the two."
        )


def fill(config: C, source: str, **values: object) -> C:
    """Set derived fields of `config`; one that was given a value must agree with it.

    Args:
        config: The inner config.
        source: Where the values come from, as a path seen from the config whose `wired`
            this is: `"backbone.feature_channels"`. It is what an error names.
        values: The derived fields and their values. One that is itself still unset fills nothing.

    Raises:
        ConfigError: A field was given another value.

    >>> @frozen(kw_only=True)
    ... class NeckConfig(Config):
    ...     in_channels: int = derived()
    >>> fill(NeckConfig(), "backbone.channels", in_channels=512)
    NeckConfig(in_channels=512)
    >>> fill(NeckConfig(in_channels=512), "backbone.channels", in_channels=UNSET)
    NeckConfig(in_channels=512)
    """
    values = {name: value for name, value in values.items() if value is not UNSET}
    for name, value in values.items():
        given = getattr(config, name)
        if given is not UNSET and given != value:
            raise _ContradictionError(config, name, given, source, value)
    return evolve(config, **values)


def check_unused(config: Config, reason: str, *names: str) -> None:
    """Refuse values that would have no effect: of fields that a class inherits and does not read.

    Args:
        config: Whose fields they are.
        reason: Why they have none, as a clause: `"proposals go by rank"`.
        names: The fields. Each may have its default value, which saved configs hold.

    Raises:
        ConfigError: One of them has another value.
    """
    for name in names:
        if (value := getattr(config, name)) != attrs.fields_dict(type(config))[name].default:
            raise ConfigError(f"{name} is {value!r}, which has no effect: {reason}. Leave {name} out.")


def _configs(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Config]]:
    """Every config in a value, itself first, and its path."""
    if isinstance(value, Config):
        yield path, value
        for name in attrs.fields_dict(type(value)):
            yield from _configs(getattr(value, name), (*path, name))
    elif isinstance(value, tuple):
        for index, item in enumerate(cast("tuple[object, ...]", value)):
            yield from _configs(item, (*path, str(index)))


def _join(path: tuple[str, ...]) -> str:
    return ".".join(path)


def _resolve(value: Any, path: tuple[str, ...]) -> Any:
    match value:
        case Config():
            return _resolve_config(value, path)
        case tuple():
            items = cast("tuple[object, ...]", value)
            return tuple(_resolve(item, (*path, str(index))) for index, item in enumerate(items))
        case _:
            return value


def _resolve_config(config: Config, path: tuple[str, ...]) -> Config:
    try:
        wired = config.wired()
    except _ContradictionError as error:
        raise error.located(config, path) from None
    except ConfigError as error:
        raise ConfigError(f"{_join(path)}: {error}" if path else str(error)) from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise _impossible(error, path or (type(config).__name__,)) from error
    if wired is not config:
        _check_types(wired, path)
    values = {name: getattr(wired, name) for name in attrs.fields_dict(type(wired))}
    for name, value in values.items():
        if value is UNSET:
            where = _join((*path, name)) if path else f"{type(config).__name__}.{name}"
            raise ConfigError(f"{where} is derived, and nothing around it says what it is. Give it a value.")
    resolved = {name: _resolve(value, (*path, name)) for name, value in values.items()}
    changed = {name: value for name, value in resolved.items() if value is not values[name]}
    return evolve(wired, **changed) if changed else wired


def _impossible(error: Exception, path: tuple[str, ...]) -> ConfigError:
    """What `wired` could not work out, with the config whose values it was working on."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    culprits = [frame for frame in frames if isinstance(frame.f_locals.get("self"), Config)]
    frame = culprits[-1]
    name = type(frame.f_locals["self"]).__name__
    place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    return ConfigError(
        f"{_join(path)}: {name}.{frame.f_code.co_name} cannot be worked out: {error}. "
        f"A value of {name}, or of what it is wired to, is out of range ({place})."
    )


def _check_tree(value: object) -> None:
    for path, config in _configs(value):
        _check_types(config, path)


def _check_types(config: Config, path: tuple[str, ...]) -> None:
    cls = type(config)
    for name, annotation in field_types(cls).items():
        value = getattr(config, name)
        if value is not UNSET and (problem := mismatch(value, annotation)):
            where = _join((*path, name)) if path else f"{cls.__name__}.{name}"
            raise ConfigError(f"{where} {problem}")
