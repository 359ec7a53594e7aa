"""What a run tells: lines and a bar for a person, JSON lines for a program, and TensorBoard's curves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from attrs import define

from detcfg.engine.files import RunError, write_atomically

JSON_NAME: Final = "log.jsonl"
BOARD_NAME: Final = "tensorboard"

T = TypeVar("T")


class Log:
    """The log of a run in its folder; `quiet` ones, of processes beside the first, do nothing."""

    def __init__(self, folder: Path, *, quiet: bool = False) -> None:
        from rich.console import Console

        self._folder, self._quiet = folder, quiet
        self._console = Console(highlight=False, soft_wrap=True)
        self._board: Any = None
        self._start = 0

    def rewind(self, step: int) -> None:
        """Forget what comes after a step: a resumed run says it again."""
        path = self._folder / JSON_NAME
        self._start = step
        if self._quiet or not path.is_file():
            return
        kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _is_up_to(line, step)]
        write_atomically(path, lambda new: new.write_text("".join(f"{line}\n" for line in kept)))

    def say(self, text: str) -> None:
        """A line for the person."""
        if not self._quiet:
            self._console.print(text, markup=False)

    def scalars(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Figures at a step; `kind` is train or val.

        Raises:
            RunError: They cannot be written.
        """
        if self._quiet:
            return
        entry = {"kind": kind, "step": step, "time": round(time.time(), 3), **values}
        try:
            with (self._folder / JSON_NAME).open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
            board = self._opened_board()
            for name, value in values.items():
                board.add_scalar(f"{kind}/{name}", value, step)
            board.flush()
        except OSError as error:
            raise RunError(
                f"{self._folder}: the log cannot be written: {error}. Make room; then go on with --resume."
            ) from error

    def close(self) -> None:
        """Let go of TensorBoard's file."""
        if self._board is not None:
            self._board.close()

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

    def _opened_board(self) -> Any:
        if self._board is None:
            from torch.utils.tensorboard.writer import SummaryWriter

            # What an interrupted run wrote after its last checkpoint disappears from the curves.
            purge = self._start + 1 if self._start else None
            self._board = SummaryWriter(str(self._folder / BOARD_NAME), purge_step=purge)
        return self._board


class Bar:
    """Moves on by one at each call; without a terminal, it does nothing."""

    def __init__(self, update: Callable[[str], None] | None = None) -> None:
        self._update = update

    def advance(self, text: str = "") -> None:
        """One more is done; `text` is shown beside the bar."""
        if self._update is not None:
            self._update(text)


@define
class Pace:
    """How long steps take, and how much of that is waiting for data."""

    waited: float = 0.0
    """Seconds since `restart`."""
    steps: int = 0
    """Since `restart`."""
    since: float = 0.0

    def restart(self) -> None:
        """Measure anew from now."""
        self.waited, self.steps, self.since = 0.0, 0, time.perf_counter()

    def timed(self, items: Iterable[T]) -> Iterator[T]:
        """The same items; each counts as a step."""
        self.restart()
        iterator = iter(items)
        while True:
            start = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self.waited += time.perf_counter() - start
            self.steps += 1
            yield item

    @property
    def seconds(self) -> float:
        """Of a step."""
        return (time.perf_counter() - self.since) / max(1, self.steps)

    @property
    def data_seconds(self) -> float:
        """Of a step, waiting for data."""
        return self.waited / max(1, self.steps)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _is_up_to(line: str, step: int) -> bool:
    """Whether a line of the log is whole and not of a later step."""
    try:
        return bool(json.loads(line)["step"] <= step)
    except (ValueError, KeyError, TypeError):
        return False
