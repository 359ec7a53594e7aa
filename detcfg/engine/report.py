"""What a training says: its words for a person, its figures for the loggers, how long its steps take."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from attrs import define

from detcfg.engine.log import Bar, Log
from detcfg.engine.progress import Plan, Progress

T = TypeVar("T")


class Report:
    """Tells a log of each step, each validation and whatever else a person should know."""

    def __init__(self, log: Log, plan: Plan, log_interval: int) -> None:
        self.log, self.plan, self.log_interval = log, plan, log_interval
        self._pace, self._bar = Pace(), Bar()

    @contextmanager
    def epoch(self, progress: Progress) -> Generator[None]:
        """Within it, `step` moves a bar on."""
        with self.log.bar(self._title(progress), self.plan.steps_per_epoch, progress.step_in_epoch) as bar:
            self._bar = bar
            yield

    def timed(self, items: Iterable[T]) -> Iterator[T]:
        """The same items, each of which a step is done with; waiting for them counts as waiting for data."""
        return self._pace.timed(items)

    @contextmanager
    def validation(self, progress: Progress, batches: int) -> Generator[Bar]:
        """A bar of a validation."""
        with self.log.bar(f"{self._title(progress)} validation", batches) as bar:
            yield bar

    def step(self, progress: Progress, losses: Mapping[str, float], lr: float) -> None:
        """A step is done, and counted in `progress`."""
        left = duration((self.plan.total_steps - progress.step) * self._pace.seconds)
        times = f"{self._pace.seconds:.3f} s a step, {self._pace.data_seconds:.3f} for data  {left} left"
        line = f"loss {losses['loss']:.4f}  lr {lr:.2e}  {times}"
        self._bar.advance(line)
        if progress.step % self.log_interval == 0:
            where = f"{self._title(progress)} step {progress.step_in_epoch}/{self.plan.steps_per_epoch}"
            self.log.say(f"{where}  {line}")
            seconds = {"seconds": self._pace.seconds, "data_seconds": self._pace.data_seconds}
            self.log.scalars("train", progress.step, {**losses, "lr": lr, **seconds})
            self._pace.restart()

    def validated(
        self, progress: Progress, metrics: Mapping[str, float], summary: str, *, best: bool
    ) -> None:
        """A validation is done; `summary` is the evaluator's line of it."""
        self.log.scalars("val", progress.step, {"epoch": progress.epoch + 1, **metrics})
        end = f"val_loss {metrics['val_loss']:.4f}{'  (best)' if best else ''}"
        self.log.say(f"{self._title(progress)}  {summary}  {end}")

    def skipped(self, problems: Sequence[str]) -> None:
        """Images could not be read."""
        for problem in problems:
            self.log.say(f"Skipped: {problem}")

    def resumed(self, progress: Progress, images_per_step: int) -> None:
        """The run goes on from a checkpoint, whose steps had so many images."""
        if images_per_step != self.plan.images_per_step:
            self.log.say(f"A step had {images_per_step} images and has {self.plan.images_per_step} now.")
        self.log.rewind(progress.step)
        self.log.say(f"Going on after epoch {progress.epoch}, step {progress.step_in_epoch} of the next.")

    def _title(self, progress: Progress) -> str:
        return f"epoch {progress.epoch + 1}/{self.plan.epochs}"


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
