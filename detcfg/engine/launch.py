"""Several ranks on this machine, as processes of one command that live and die together.

`torchrun` does the same over several machines; each process knows who it is from the same variables.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import IO, Final

from attrs import frozen

from detcfg.engine.interrupts import Interrupts

RESTARTS: Final = 3
"""How often a group is started anew after one of its processes was killed."""
PARENT: Final = "DETCFG_PARENT"
GRACE: Final = 30.0
"""Seconds that processes have to end after a signal."""


def launch(command: Sequence[str], again: Sequence[str], devices: int) -> int:
    """Run a command in so many processes; the exit code of the one that failed first, or 0.

    A signal goes on to all of them. If one is killed (by the system for want of memory, say), the others
    are stopped and all begin `again`.

    Args:
        command: A command line.
        again: The one that resumes.
        devices: How many processes.
    """
    code = 0
    with Interrupts() as interrupts:
        for attempt in range(RESTARTS + 1):
            code = _Group.started(command if attempt == 0 else again, devices).wait(interrupts)
            if code >= 0 or interrupts.received:
                return code if code >= 0 else 128 - code
            if attempt < RESTARTS:
                name = signal.Signals(-code).name
                print(f"A process was killed ({name}). All begin again from the last checkpoint.", flush=True)  # noqa: T201
    return 128 - code


def end_with_parent() -> None:
    """In a process that `launch` started: take the end of that one for a SIGTERM, however it came about."""
    parent = os.environ.get(PARENT)
    if parent is None:
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


@frozen
class _Group:
    """Processes by rank, and what those beside rank 0 write to stderr."""

    processes: list[subprocess.Popen[bytes]]
    errors: list[IO[bytes]]

    @classmethod
    def started(cls, command: Sequence[str], devices: int) -> _Group:
        shared = {
            PARENT: str(os.getpid()),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(_free_port()),
            "WORLD_SIZE": str(devices),
        }
        if "OMP_NUM_THREADS" not in os.environ:
            # Processes that share the cores fairly are faster than those that fight for them.
            shared["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // devices))
        processes: list[subprocess.Popen[bytes]] = []
        errors: list[IO[bytes]] = []
        for rank in range(devices):
            ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            error = tempfile.TemporaryFile()  # noqa: SIM115 - read at the end, gone with the process
            processes.append(
                subprocess.Popen(  # noqa: S603
                    command,
                    env=os.environ | shared | ranks,
                    stderr=None if rank == 0 else error,
                    start_new_session=True,  # Ctrl-C reaches them once, by way of this process
                )
            )
            errors.append(error)
        return cls(processes, errors)

    def wait(self, interrupts: Interrupts) -> int:
        """Until all have ended: 0, or the code of the first that failed (negative: its signal).

        One that was killed is the first: the others fail at once because it is gone.
        """
        asked = False
        while None in (codes := [process.poll() for process in self.processes]) and not any(codes):
            if interrupts.received and not asked:
                asked = True
                self._signal(interrupts.received)
            time.sleep(0.05)
        ended = {rank: process.returncode for rank, process in enumerate(self.processes) if process.poll()}
        if ended:
            failed = next((rank for rank, code in ended.items() if code < 0), min(ended))
            self._end(GRACE if asked else 1.0)
            self._print_error_of(failed)
            return int(self.processes[failed].returncode)
        return 0

    def _signal(self, number: int) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)

    def _end(self, grace: float) -> None:
        """Give the others some seconds to end by themselves, then kill them: the one they wait for is gone."""
        until = time.monotonic() + grace
        while time.monotonic() < until and any(process.poll() is None for process in self.processes):
            time.sleep(0.05)
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def _print_error_of(self, failed: int) -> None:
        """Rank 0 writes to the terminal itself, and an error of all ranks is printed once."""
        if self.processes[0].returncode <= 0:
            self.errors[failed].seek(0)
            sys.stderr.buffer.write(self.errors[failed].read())
            sys.stderr.flush()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
