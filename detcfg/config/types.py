"""Whether a value is what its field's annotation says, its range included, without coercion."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from math import isfinite, isnan
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import attrs
from annotated_types import Ge, Gt, Le, Lt, MinLen, Predicate

from detcfg.config.ranges import INFINITE, Or, Rule

R = TypeVar("R")
Check = Callable[[Any], bool]


def once_per_class(function: Callable[[type], R]) -> Callable[[type], R]:
    """Remember the answer for each class."""
    cached = cache(function)

    def remembered(cls: type) -> R:
        return cached(cls)

    return remembered


def adds_behaviour(cls: type) -> bool:
    """Whether a config class defines anything but values: a method or a property."""
    public = [value for name, value in vars(cls).items() if not name.startswith("_")]
    return any(callable(v) or isinstance(v, property | classmethod | staticmethod) for v in public)


def declared_types(cls: type) -> dict[str, Any]:
    """The annotation of each attrs field of `cls` as checkers see it, evaluated.

    Raises:
        TypeError: An annotation names something that does not exist at run time.
    """
    try:
        hints = get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"{cls.__qualname__}: the annotation {error.name!r} is not defined at run time. "
            "Import it outside `if TYPE_CHECKING:`, since configs are checked by their annotations."
        ) from error
    return {field.name: hints.get(field.name, Any) for field in attrs.fields(cls)}


@once_per_class
def field_types(cls: type) -> dict[str, Any]:
    """The annotation of each attrs field of `cls`, evaluated, with its range.

    A subclass that declares a field anew as a plain number keeps the range of its parent. One that only gives
    values, as an experiment does, keeps the components that its parent takes: `roi_head: StandardRoIHeadConfig`
    there tells checkers and editors what stands in the field, and another head can be put there all the same.

    Raises:
        TypeError: An annotation names something that does not exist at run time.
    """
    found = declared_types(cls)
    for parent in filter(attrs.has, cls.__bases__):
        for name, inherited in field_types(parent).items():
            mine = found[name]
            if mine != inherited and (
                mine == bare(inherited) or (_narrows(mine, inherited) and not adds_behaviour(cls))
            ):
                found[name] = inherited
    return found


def _narrows(annotation: Any, inherited: Any) -> bool:
    """Whether one component class is a kind of the other."""
    return isinstance(annotation, type) and isinstance(inherited, type) and issubclass(annotation, inherited)


def bare(annotation: Any) -> Any:
    """The annotation without ranges, all the way down."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return bare(args[0])
    if origin in (Union, types.UnionType):
        return Union[tuple(map(bare, args))]  # noqa: UP007 - made of what is found
    if origin is tuple:
        return tuple[tuple(a if a is Ellipsis else bare(a) for a in args)]  # type: ignore[misc]
    return annotation


def options(annotation: Any) -> tuple[Any, ...]:
    """The types that an annotation allows, without their own ranges: `PositiveInt | None` to (int, None)."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return options(args[0])
    if origin in (Union, types.UnionType):
        return tuple(option for arg in args for option in options(arg))
    return (annotation,)


def item_types(option: Any, length: int) -> tuple[Any, ...] | None:
    """What each item of a tuple of a length has to be; None if the option is no tuple of that length."""
    if get_origin(option) is not tuple:
        return None
    args = get_args(option)
    if len(args) == 2 and args[1] is Ellipsis:
        return (args[0],) * length
    return args if len(args) == length else None


def describe(annotation: Any) -> str:  # noqa: PLR0911 - one return a kind of annotation
    """An annotation as a person would write it: `int of at least 1`, `float from 0 to 1 or None`."""
    if annotation is type(None) or annotation is None:
        return "None"
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return f"{describe(args[0])}{_range(args[1:])}"
    if origin in (Union, types.UnionType):
        return " or ".join(describe(option) for option in args)
    if origin is Literal:
        return "one of " + ", ".join(repr(choice) for choice in args)
    if origin is tuple:
        return f"tuple[{', '.join('...' if a is Ellipsis else describe(a) for a in args)}]"
    if origin is None and isinstance(annotation, type):
        return annotation.__name__
    return str(annotation).replace("typing.", "")


def _range(metadata: tuple[Any, ...]) -> str:
    """A range in words, to follow the name of the type."""
    low, high, more = "", "", ""
    for rule in metadata:
        match rule:
            case Ge(ge):
                low = f" of at least {ge}"
            case Gt(gt):
                low = f" above {gt}"
            case Le(le):
                high = f" of at most {le}"
            case Lt(lt):
                high = f" below {lt}"
            case MinLen(length):
                more += f" of at least {length} value{'s' if length > 1 else ''}"
            case Rule(says=says):
                more += f" {says}"
            case Or(value, means):
                more += f", or {value:g} for {means}"
            case _:
                continue
    if low.startswith(" of at least") and high.startswith(" of at most"):
        low, high = low.replace("of at least", "from"), high.replace("of at most", "to")
    return f"{low}{' and' if low and high and ' to' not in high else ''}{high}{more}"


def matches(value: Any, annotation: Any) -> bool:
    """Whether `value` is an instance of `annotation` and in its range; an int is a float, a bool is not an int.

    >>> from detcfg.config.ranges import Fraction
    >>> matches(0.5, Fraction), matches(1, Fraction), matches(1.5, Fraction), matches(float("nan"), float)
    (True, True, False, False)
    """
    return _check(annotation)(value)


@cache
def _check(annotation: Any) -> Check:  # noqa: PLR0911 - one return a kind of annotation
    """The function that `matches` calls, put together once for each annotation."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation is Any or isinstance(annotation, typing.TypeVar):
        return lambda _: True
    if annotation is None or annotation is type(None):
        return lambda value: value is None
    if origin is Annotated:
        return _in_range(args[0], args[1:])
    if origin in (Union, types.UnionType):
        checks = [_check(option) for option in args]
        return lambda value: any(check(value) for check in checks)
    if origin is Literal:
        choices: set[tuple[type, object]] = {(type(choice), choice) for choice in args}
        return lambda value: isinstance(value, int | str | bytes | None) and (type(value), value) in choices
    if origin is tuple:
        return _check_tuple(args)
    if origin is not None and issubclass(origin, Mapping):
        key_fits, item_fits = map(_check, args)
        return lambda value: (
            isinstance(value, Mapping)
            and all(
                key_fits(key) and item_fits(item)
                for key, item in cast("Mapping[object, object]", value).items()
            )
        )
    if annotation is float:
        return lambda value: type(value) is int or (type(value) is float and isfinite(value))
    if annotation is int:
        return lambda value: type(value) is int
    if origin is None and isinstance(annotation, type):
        return lambda value: isinstance(value, annotation)
    return lambda value: origin is None or isinstance(value, origin)


def _check_tuple(args: tuple[Any, ...]) -> Check:
    if len(args) == 2 and args[1] is Ellipsis:
        fits = _check(args[0])
        return lambda value: isinstance(value, tuple) and all(map(fits, cast("tuple[object, ...]", value)))
    checks = [_check(arg) for arg in args]
    return lambda value: (
        isinstance(value, tuple)
        and len(cast("tuple[object, ...]", value)) == len(checks)
        and all(check(item) for check, item in zip(checks, cast("tuple[object, ...]", value), strict=True))
    )


def _in_range(annotation: Any, metadata: tuple[Any, ...]) -> Check:
    fits = _is_number if INFINITE in metadata else _check(annotation)
    others = {rule.value for rule in metadata if isinstance(rule, Or)}
    rules = [check for rule in metadata if (check := _rule(rule)) is not None]
    return lambda value: (
        fits(value) and (all(check(value) for check in rules) or (bool(others) and value in others))
    )


def _is_number(value: Any) -> bool:
    return type(value) is int or (type(value) is float and not isnan(value))


def _rule(rule: Any) -> Check | None:  # noqa: PLR0911 - one return a kind of rule
    match rule:
        case Ge(bound):
            return lambda value: value >= bound
        case Gt(bound):
            return lambda value: value > bound
        case Le(bound):
            return lambda value: value <= bound
        case Lt(bound):
            return lambda value: value < bound
        case MinLen(length):
            return lambda value: len(value) >= length
        case Rule(func=func) | Predicate(func=func):
            return func
        case _:
            return None


def mismatch(value: Any, annotation: Any) -> str:
    """What is wrong with `value`, to follow its name in a sentence; empty if nothing is."""
    if matches(value, annotation):
        return ""
    cls: Any = value.__class__
    got = cls.__name__ if attrs.has(cls) else repr(value)
    hint = " Configs are immutable: write a tuple, not a list." if cls is list else ""
    if cls is float and not isfinite(value):
        hint = " It has to be a finite number."
    elif (near := _nearest(value, annotation)) is not None:
        hint = f" The nearest is {near!r}."
    return f"must be {describe(annotation)}, not {got}.{hint}"


def _nearest(value: Any, annotation: Any) -> Any:
    """The nearest value within the range, where that is a certain one; else None."""
    for option in (annotation, *get_args(annotation)):
        if get_origin(option) is not Annotated or not _check(get_args(option)[0])(value):
            continue
        near = value
        for rule in get_args(option)[1:]:
            match rule:
                case Ge(bound) | Le(bound):
                    near = near if cast("Check", _rule(rule))(near) else bound
                case Rule(func=holds, nearest=nearest):
                    near = near if holds(near) else nearest(near)
                case _:
                    continue
        if matches(near, annotation):
            return near
    return None
