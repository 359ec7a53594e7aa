"""The root of the errors that a user can put right."""

from __future__ import annotations

import sys


class DetcfgError(Exception):
    """Something in the input is wrong: a config, a file, the data or the command line.

    The message says where, what, and what to do. The command line shows it without a traceback;
    any other exception is a bug and keeps its traceback.
    """


class NotWrittenError(DetcfgError, NotImplementedError):
    """A stub has not been filled in: it stands for a component of another project that detcfg lacks.

    `detcfg import-mmdet` writes stubs.
    """

    def __init__(self, owner: object, name: str) -> None:
        cls = next(cls for cls in type(owner).__mro__ if name in vars(cls))
        file = getattr(sys.modules.get(cls.__module__), "__file__", None) or cls.__module__
        super().__init__(
            f"{file}: {cls.__name__}.{name} is to be written. {cls.__name__} stands for a component that detcfg "
            "lacks, with its fields; write the rest there, or replace it by a component of detcfg."
        )


def printable(text: str) -> str:
    """A text in which what a terminal would take for a command, or cannot show, is written out: `\\x1b`.

    Names out of other people's files are printed, after all.
    """
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
