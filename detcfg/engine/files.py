"""Files that are whole or absent, and a folder that one run at a time writes to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from detcfg.errors import DetcfgError


class RunError(DetcfgError):
    """A run cannot start or go on; the message says why and what to do."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make a file, and put it in the place of `path` once it is safely on the disk.

    Whatever happens meanwhile, `path` holds the old content or the new, never a part.

    Raises:
        RunError: The file cannot be written; the old content of `path` is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(mode)  # safetensors makes files that nobody else may read
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    except Exception as error:
        temporary.unlink(missing_ok=True)
        if not is_disk_error(error):
            raise
        kept = " What it held before is still there." if path.exists() else ""
        raise RunError(
            f"{path} cannot be written: {error}.{kept} "
            "Make room, or choose another place with --work-dir; then go on with --resume."
        ) from error


def is_disk_error(error: Exception) -> bool:
    """Whether the operating system refused to write, in Python's words or in safetensors' own."""
    return isinstance(error, OSError) or "os error" in str(error) or "I/O error" in str(error)


def flush(path: Path) -> None:
    """Wait until what was written to a file, or to the list of a folder, would survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def only_run(folder: Path) -> Generator[None]:
    """Hold the folder of a run; the system lets go of it when the process ends, however it ends.

    A folder that was made for it, and in which the run left nothing, goes again.

    Raises:
        RunError: Another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows has none; there, nobody is stopped
        yield
        return
    lock, was_there = folder / ".lock", folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    except OSError as error:
        raise RunError(
            f"{folder} cannot be written: {error}. Choose another place with --work-dir."
        ) from error
    with file:
        try:
            # Of this process alone: those that read images for it and outlive it do not hold it.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(
                f"{folder}: another run is writing to it. Wait for it, or choose another --work-dir."
            ) from None
        for unfinished in folder.glob(".*.tmp"):  # of a run that was killed while writing
            shutil.rmtree(unfinished) if unfinished.is_dir() else unfinished.unlink()
        try:
            yield
        finally:
            if not was_there and list(folder.iterdir()) == [lock]:
                shutil.rmtree(folder, ignore_errors=True)
