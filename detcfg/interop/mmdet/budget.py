"""Limits on what a foreign config may cost, so that a small file cannot fill the memory.

Values may share parts (`b = [a, a]`, `c = [b, b]`, …), which are cheap to hold and ruinous to print or
to compare. So sizes are those of the value written out, and whatever walks over a value pays for it
first.
"""

from __future__ import annotations

from typing import Any, Final

from detcfg.interop.mmdet.data import Location, Node, ReadError, is_list, is_tuple

MAX_WORK: Final = 500_000
"""Cells that may be made or visited while one config is read; the largest of MMDetection's zoo takes a tenth."""
STEP: Final = 5
"""What evaluating one expression costs."""
MAX_DEPTH: Final = 60
MAX_TEXT: Final = 100_000
"""Characters of one string."""
MAX_BITS: Final = 2_048
"""Of one integer."""


class Budget:
    """What is left for the config at hand and all its bases together."""

    def __init__(self, work: int = MAX_WORK) -> None:
        self.left = work

    def spend(self, work: int, location: Location) -> None:
        self.left -= work
        if self.left < 0:
            raise ReadError(
                f"{location}: this config grows beyond what is read safely ({MAX_WORK:,} values)."
            )

    def text(self, length: int, location: Location) -> None:
        """Pay for a string."""
        if length > MAX_TEXT:
            raise ReadError(
                f"{location}: a string of {length:,} characters is too long; {MAX_TEXT:,} are read."
            )
        self.spend(1 + length // 32, location)

    def integer(self, bits: float, location: Location) -> None:
        """Refuse an integer of more than `MAX_BITS`."""
        if bits > MAX_BITS:
            raise ReadError(f"{location}: an integer of some {bits:,.0f} bits is too large.")

    def visit(self, value: Any, location: Location) -> int:
        """Pay for walking over `value` as it would be written out, and return that size."""
        sizes: dict[int, int] = {}
        size = self._size(value, sizes, 0, location)
        self.spend(size, location)
        return size

    def _size(self, value: Any, sizes: dict[int, int], depth: int, location: Location) -> int:
        if isinstance(value, str):
            return 1 + len(value) // 32
        if isinstance(value, Node):
            children = list(value.values())
        elif is_list(value) or is_tuple(value):
            children = list(value)
        else:
            return 1
        known = sizes.get(id(value))
        if known is not None:
            if known < 0:
                raise ReadError(f"{location}: a value contains itself.")
            return known
        if depth > MAX_DEPTH:
            raise ReadError(f"{location}: values are nested more than {MAX_DEPTH} levels deep.")
        self.spend(1 + len(children), location)
        sizes[id(value)] = -1
        size = 1 + sum(self._size(child, sizes, depth + 1, location) for child in children)
        sizes[id(value)] = size
        return size
