"""A command as the tests see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from attrs import frozen


@frozen
class Outcome:
    """What a command left."""

    code: int
    out: str
    err: str


Command: TypeAlias = Callable[..., Outcome]
