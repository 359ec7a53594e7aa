"""Where what a run tells goes: lines and a bar to a person, figures to JSON lines and to TensorBoard."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from detcfg.engine.files import RunError, write_atomically
from detcfg.errors import printable

JSON_NAME: Final = "log.jsonl"
BOARD_NAME: Final = "tensorboard"


class Logger(ABC):
    """Takes the figures of a run: a file, a program that draws curves."""

    @abstractmethod
    def scalars(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Figures by name at a step; `kind` is train or val.

        Raises:
            OSError: They cannot be written.
        """

    def rewind(self, step: int) -> None:
        """Forget what comes after a step: a resumed run says it again."""
        del step

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Write what is not written yet, and let go of files."""


class JSONLines(Logger):
    """One JSON object a line, appended to a file of the run's folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / JSON_NAME

    def scalars(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        entry = {"kind": kind, "step": step, "time": round(time.time(), 3), **values}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def rewind(self, step: int) -> None:
        if not self.path.is_file():
            return
        kept = [line for line in self.path.read_text(encoding="utf-8").splitlines() if _is_up_to(line, step)]
        write_atomically(self.path, lambda new: new.write_text("".join(f"{line}\n" for line in kept)))


class TensorBoard(Logger):
    """Curves for TensorBoard, in a folder of the run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / BOARD_NAME
        self.start = 0
        self.writer: Any = None

    def scalars(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        if self.writer is None:
            from torch.utils.tensorboard.writer import SummaryWriter

            # What an interrupted run wrote after its last checkpoint disappears from the curves.
            purge = self.start + 1 if self.start else None
            self.writer = SummaryWriter(str(self.folder), purge_step=purge)
        for name, value in values.items():
            self.writer.add_scalar(f"{kind}/{name}", value, step)
        self.writer.flush()

    def rewind(self, step: int) -> None:
        self.start = step

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


class Log:
    """The log of a run in its folder; a `quiet` one, of any rank but 0, does nothing."""

    def __init__(self, folder: Path, *, quiet: bool = False) -> None:
        from rich.console import Console

        self._folder, self._quiet = folder, quiet
        self._console = Console(highlight=False, soft_wrap=True)
        self._loggers: tuple[Logger, ...] = () if quiet else (JSONLines(folder), TensorBoard(folder))

    def rewind(self, step: int) -> None:
        """Forget what comes after a step: a resumed run says it again."""
        for logger in self._loggers:
            logger.rewind(step)

    def say(self, text: str) -> None:
        """A line for the person."""
        if not self._quiet:
            self._console.print(printable(text), markup=False)

    def scalars(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Figures at a step; `kind` is train or val.

        Raises:
            RunError: They cannot be written.
        """
        try:
            for logger in self._loggers:
                logger.scalars(kind, step, values)
        except OSError as error:
            raise RunError(
                f"{self._folder}: the log cannot be written: {error}. Make room; then go on with --resume."
            ) from error

    def close(self) -> None:
        """Close the loggers."""
        for logger in self._loggers:
            logger.close()

    @contextmanager
    def bar(self, title: str, total: int, done: int = 0) -> Generator[Bar]:
        """A progress bar, where somebody looks at it."""
        if self._quiet or not self._console.is_terminal:
            yield Bar()
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
        )
        with Progress(*columns, console=self._console, transient=True, expand=True) as progress:
            task = progress.add_task(title, total=total, completed=done, text="")
            yield Bar(lambda text: progress.update(task, advance=1, text=text))


class Bar:
    """Moves on by one at each call; without a terminal, it does nothing."""

    def __init__(self, update: Callable[[str], None] | None = None) -> None:
        self._update = update

    def advance(self, text: str = "") -> None:
        """One more is done; `text` is shown beside the bar."""
        if self._update is not None:
            self._update(text)


def _is_up_to(line: str, step: int) -> bool:
    """Whether a line of the log is whole and not of a later step."""
    try:
        return bool(json.loads(line)["step"] <= step)
    except (ValueError, KeyError, TypeError):
        return False
