"""`evolve`: a config with other values, checked and completed by type checkers.

At run time, and to mypy, which knows it, this is `attrs.evolve`. Checkers that know dataclass transforms give each
config a `__replace__` that takes its fields by keyword, from Python 3.13 on; there `evolve` takes what that takes. For
3.11 and 3.12 they see attrs' own signature, which takes anything; what is wrong then is an error when the file is
imported or the config resolves.

>>> from attrs import frozen
>>> from detcfg.config import Config
>>> @frozen(kw_only=True)
... class NeckConfig(Config):
...     out_channels: int = 256
>>> evolve(NeckConfig(), out_channels=128)
NeckConfig(out_channels=128)
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final, ParamSpec, Protocol, TypeVar

__all__ = ["evolve"]

MYPY: Final = False  # mypy takes any constant of this name for true
P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

if TYPE_CHECKING and not MYPY and sys.version_info >= (3, 13):

    class _Replaceable(Protocol[P, R_co]):
        def __replace__(self, *args: P.args, **changes: P.kwargs) -> R_co: ...

    def evolve(inst: _Replaceable[P, R_co], /, *args: P.args, **changes: P.kwargs) -> R_co:
        raise NotImplementedError
else:
    from attrs import evolve  # pyright: ignore[reportAssignmentType]  # checkers read one branch or the other
