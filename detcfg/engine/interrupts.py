"""Ctrl-C and SIGTERM end a run in good order: after the step that is under way, with a checkpoint."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Final, Self

from detcfg.errors import DetcfgError

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupted(DetcfgError):  # noqa: N818 - not a fault
    """The run ended early since somebody asked for it; its state is saved."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"Stopped by {signal.Signals(signum).name}; the state is saved.")
        self.signum = signum


class Interrupts:
    """While entered, the first signal is only noted; a second one ends the process as ever."""

    def __init__(self) -> None:
        self.received = 0
        """The signal's number, or 0."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # it alone may say what signals do
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def check(self) -> None:
        """Raise if there was a signal; for where nothing is left to be saved.

        Raises:
            Interrupted: There was one.
        """
        if self.received:
            raise Interrupted(self.received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
