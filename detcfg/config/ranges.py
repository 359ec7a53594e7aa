"""What numbers a field takes, as types: `num_outs: PositiveInt = 5`.

To type checkers each is the plain number. At run time `Config.resolved`, the command line, saved files and the
importer refuse what lies outside, and hypothesis (`st.from_type`) draws from within. A field that is `float`
and nothing more takes every finite number.

>>> from attrs import frozen
>>> from detcfg.config import Config
>>> @frozen(kw_only=True)
... class PyramidConfig(Config):
...     num_outs: PositiveInt = 5
>>> PyramidConfig(num_outs=0).resolved()
Traceback (most recent call last):
detcfg.config.base.ConfigError: PyramidConfig.num_outs must be int of at least 1, not 0. The nearest is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Annotated, Any, Final, TypeAlias, TypeVar, cast

from annotated_types import Ge, Gt, Le, Lt, MinLen, Predicate

T = TypeVar("T")


@dataclass(frozen=True)
class Rule:
    """A range that bounds cannot say; a `Predicate` of the same function beside it is what hypothesis filters by."""

    func: Callable[[Any], bool]
    """Whether a value keeps to it."""
    says: str
    """The rule in words, to follow the name of the type: `in rising order`."""
    nearest: Callable[[Any], Any] = lambda value: value
    """A value that may be meant by one that breaks the rule."""


@dataclass(frozen=True)
class Or:
    """One more value, which stands for something else, such as -1 for `off`."""

    value: float
    means: str


class _Infinite:
    """Infinity is taken: it means that there is no bound."""


INFINITE: Final = _Infinite()


def _rises(values: Sequence[Any]) -> bool:
    return all(low < high for low, high in pairwise(values))


def _raised(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(sorted(set(values)))


def _is_pair(values: Any) -> bool:
    low, high = cast("tuple[float, float]", values)
    return low <= high


def _is_odd(value: int) -> bool:
    return value % 2 == 1


_RISING: Final = Rule(_rises, "in rising order without repeats", _raised)
_ORDERED: Final = Rule(_is_pair, "the lower first", lambda values: tuple(sorted(values)))
_ODD: Final = Rule(_is_odd, "and odd", lambda value: value + 1)

PositiveInt: TypeAlias = Annotated[int, Ge(1)]
"""1, 2, 3, … (channels, classes, kernel sizes)."""
NonNegativeInt: TypeAlias = Annotated[int, Ge(0)]
"""0, 1, 2, …"""
OddInt: TypeAlias = Annotated[int, Ge(1), _ODD, Predicate(_is_odd)]
"""1, 3, 5, …: the kernel of a convolution that keeps the size of a map."""
NumLayers: TypeAlias = Annotated[int, Ge(0), Le(1000)]
"""How many layers stand in a row: 0 to 1,000."""
OneOrMoreLayers: TypeAlias = Annotated[int, Ge(1), Le(1000)]
"""How many layers stand in a row: 1 to 1,000."""
IntOrOff: TypeAlias = Annotated[int, Ge(0), Or(-1, "off")]
"""0, 1, 2, …; -1 turns it off."""
IndexOrLast: TypeAlias = Annotated[int, Ge(0), Or(-1, "the last")]
"""An index from 0 on; -1 for the last."""
CountOrAll: TypeAlias = Annotated[int, Ge(1), Or(-1, "all")]
"""At most so many, from 1 on; -1 for all."""
PositiveFloat: TypeAlias = Annotated[float, Gt(0), Predicate(isfinite)]
"""Above 0."""
NonNegativeFloat: TypeAlias = Annotated[float, Ge(0), Predicate(isfinite)]
"""At least 0."""
Fraction: TypeAlias = Annotated[float, Ge(0), Le(1)]
"""From 0 to 1: IoU thresholds, scores, shares, probabilities."""
PositiveFraction: TypeAlias = Annotated[float, Gt(0), Le(1)]
"""Above 0, at most 1."""
ProperFraction: TypeAlias = Annotated[float, Ge(0), Lt(1)]
"""At least 0, below 1: momentum, dropout."""
FractionOrOff: TypeAlias = Annotated[float, Ge(0), Le(1), Or(-1, "off")]
"""From 0 to 1; -1 turns it off."""
WeightOrOff: TypeAlias = Annotated[float, Ge(0), Or(-1, "off")]
"""At least 0; -1 turns it off."""
Seed: TypeAlias = Annotated[int, Ge(0), Le(2**32 - 1)]
"""What random numbers begin with: 0 to 2^32 - 1, as NumPy and torch both take it."""
Unbounded: TypeAlias = Annotated[float, INFINITE]
"""Any number; infinity means that there is no bound."""
PositiveUnbounded: TypeAlias = Annotated[float, Gt(0), INFINITE]
"""Above 0; infinity means that there is no bound."""
NonEmpty: TypeAlias = Annotated[tuple[T, ...], MinLen(1)]
"""One value or more: `NonEmpty[PositiveFloat]`."""
Increasing: TypeAlias = Annotated[tuple[T, ...], _RISING, Predicate(_rises)]
"""Values of which each is above the one before: `Increasing[NonNegativeInt]`."""
Ordered: TypeAlias = Annotated[tuple[T, T], _ORDERED, Predicate(_is_pair)]
"""A least and a greatest value: `Ordered[float]`."""
