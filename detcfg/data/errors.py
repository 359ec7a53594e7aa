"""What is wrong with a dataset, said so that a person can find it and put it right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from attrs import frozen

from detcfg.errors import DetcfgError

_SHOWN = 5
FRACTIONS: Final = "with boxes in fractions of the image (0 to 1)"
"""A reason for `LeftOut`: YOLO writes boxes so."""


@frozen(kw_only=True)
class Problem:
    """One fault of the data."""

    file: str
    """The file to open."""
    what: str
    """What is wrong, as a sentence without its full stop."""
    remedy: str
    """What to do, as a sentence."""
    where: str = ""
    """The place in the file: "image 12", "annotation 7"."""
    severity: Literal["error", "dropped", "note"] = "error"
    """An error has to be put right; "dropped" is a report of something left out, "note" of something that
    is taken otherwise than it is written."""

    def __str__(self) -> str:
        place = f"{self.file}: {self.where}" if self.where else self.file
        return f"{place}: {self.what}. {self.remedy}".rstrip()


@frozen(kw_only=True)
class LeftOut:
    """Objects of a file that are ignored or dropped, all for one reason."""

    reason: str
    """As it stands behind their number: "of other classes"."""
    count: int
    example: str
    """One of them: "annotation 7"."""
    remedy: str
    """How they become ground truth, as sentences."""
    ignored: bool = False
    """Whether they are ignored objects (crowd, difficult), rather than dropped ones."""
    suspect: bool = False
    """Whether that is seldom meant, and so a warning."""


class DataError(DetcfgError):
    """The data cannot be used as it is. The message names the file, the place and the remedy."""

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> DataError:
        """The first few problems in full, and how many more there are."""
        lines = [str(problem) for problem in problems[:_SHOWN]]
        if len(problems) > _SHOWN:
            lines.append(f"... and {len(problems) - _SHOWN} more. `detcfg check` lists them all.")
        return cls("\n".join(lines))


class ReadingError(DataError):
    """An image cannot be read, met while a batch was made, perhaps in a worker process.

    torch raises it again in the main process with a traceback for its message, of which the last line is ours.
    """

    def __init__(self, message: str) -> None:
        if message.startswith("Caught "):
            message = message.rpartition(f"{type(self).__name__}: ")[2].rstrip()
        super().__init__(message)
