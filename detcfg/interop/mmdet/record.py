"""What became of each value of a config: carried over, left to detcfg's default, or not supported."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from attrs import Factory, define, frozen

from detcfg.interop.mmdet.data import Location


class Status(StrEnum):
    """What became of a value."""

    CARRIED = "carried"
    DEFAULTED = "defaulted"
    """detcfg does it by itself, or has no need of it."""
    UNSUPPORTED = "not supported"


@frozen
class Entry:
    """One value of the source."""

    status: Status
    path: str
    """`model.backbone.dcn`, as the source has it."""
    location: Location | None
    """Where it was written; None for what the source leaves out."""
    note: str
    """Where it went, or why it did not."""


@define
class Record:
    """Every value of a source, in the order of reading."""

    entries: list[Entry] = Factory(list[Entry])

    def carried(self, path: str, location: Location | None, note: str = "") -> None:
        """A value that went somewhere."""
        self.entries.append(Entry(Status.CARRIED, path, location, note))

    def defaulted(self, path: str, location: Location | None, note: str) -> None:
        """A value that detcfg does not need to be told."""
        self.entries.append(Entry(Status.DEFAULTED, path, location, note))

    def unsupported(self, path: str, location: Location | None, note: str) -> None:
        """A value that has no counterpart."""
        self.entries.append(Entry(Status.UNSUPPORTED, path, location, note))

    def forgive_shared(self) -> None:
        """Drop complaints of one head about a setting that another head took from the same line."""
        taken = {
            (entry.location, _key(entry)) for entry in self.of(Status.CARRIED) if entry.location is not None
        }
        self.entries = [
            entry
            for entry in self.entries
            if entry.status is not Status.UNSUPPORTED or (entry.location, _key(entry)) not in taken
        ]

    def of(self, status: Status) -> Iterator[Entry]:
        """The entries of one kind."""
        return (entry for entry in self.entries if entry.status is status)

    @property
    def whole(self) -> bool:
        """Whether everything has a counterpart."""
        return next(self.of(Status.UNSUPPORTED), None) is None


def _key(entry: Entry) -> str:
    return entry.path.rpartition(".")[2]
