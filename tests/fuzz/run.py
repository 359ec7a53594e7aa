"""Give spoilt inputs to a reader; whatever it does but take or refuse them is a failure."""

from __future__ import annotations

import resource
import signal
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Final, NoReturn

from attrs import define, field, frozen

from detcfg.errors import DetcfgError

SECONDS: Final = 10.0
"""Of the processor, for one input; a hang would take more."""
MEBIBYTES: Final = 300
"""By which one input may raise what the process needs at most."""

GIBIBYTES: Final = 4


class TooSlow(BaseException):
    """An input takes too long. Not an Exception, so that no reader catches it."""


@frozen
class Failure:
    """An input that was neither taken nor refused."""

    reader: str
    index: int
    """Of the input: with the seed, it makes the input again."""
    what: str
    place: str
    """The innermost line of detcfg."""
    trace: str


@define
class Outcome:
    """What became of inputs."""

    taken: int = 0
    refused: int = 0
    slowest: float = 0.0
    """Seconds of the processor."""
    failures: list[Failure] = field(factory=list[Failure])

    def distinct(self) -> dict[tuple[str, str], list[Failure]]:
        """The failures by what went wrong and where."""
        found: dict[tuple[str, str], list[Failure]] = {}
        for failure in self.failures:
            found.setdefault((failure.what.partition(":")[0], failure.place), []).append(failure)
        return found


def run(name: str, read: Callable[[Random], object], count: int, *, seed: int = 0, start: int = 0) -> Outcome:
    """Have `read` make and read so many inputs, each of a generator of its own."""
    outcome = Outcome()
    for index in range(start, start + count):
        before, began = _peak(), _seconds()
        try:
            with _limited():
                read(Random(f"{seed} {name} {index}"))  # noqa: S311 - the same inputs every time
            outcome.taken += 1
        except DetcfgError as error:
            outcome.refused += 1
            if not str(error).strip():
                outcome.failures.append(_failure(name, index, error, "an error that says nothing"))
        except (Exception, TooSlow) as error:  # noqa: BLE001 - that is what is looked for
            outcome.failures.append(_failure(name, index, error, f"{type(error).__name__}: {error}"[:300]))
        outcome.slowest = max(outcome.slowest, _seconds() - began)
        if (grown := _peak() - before) > MEBIBYTES:
            outcome.failures.append(Failure(name, index, f"{grown} MiB of memory", "", ""))
    return outcome


def limit_memory() -> None:
    """Let this process, which is there for nothing else, have no more than `GIBIBYTES` besides what it has."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = used + GIBIBYTES * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


@contextmanager
def _limited() -> Generator[None]:
    def stop(*_: object) -> NoReturn:
        raise TooSlow(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _failure(name: str, index: int, error: BaseException, what: str) -> Failure:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/detcfg/" in f.filename]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return Failure(name, index, what, place, "".join(traceback.format_exception(error)[-12:]))


def _peak() -> int:
    """The most memory that the process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
