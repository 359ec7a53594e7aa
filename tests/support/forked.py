"""Commands in copies of this process, which has torch loaded: an interpreter of their own takes seconds for that.

All else is as it is for `python -m detcfg`: a process has a number to send signals to, variables and output of its
own, and `--devices 2` starts two more.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import IO, Any, Final, NoReturn

from detcfg.cli.main import run
from detcfg.engine import launch

PYTHON: Final = (sys.executable, "-m", "detcfg")


class Forked:
    """A process that runs a command: what `detcfg.engine.launch` uses of `subprocess.Popen`, and the tests."""

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        stdout: IO[Any] | None = None,
        stderr: IO[Any] | None = None,
        *,
        start_new_session: bool = False,
    ) -> None:
        assert tuple(command[:3]) == PYTHON
        self.returncode: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                if start_new_session:
                    os.setsid()
                for number, file in ((1, stdout), (2, stderr)):
                    if file is not None:
                        os.dup2(file.fileno(), number)
                _become(command, os.environ if env is None else env)
            finally:  # whatever went wrong, the tests go on in the other process alone
                os._exit(70)

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None if it has not ended."""
        return self._wait(os.WNOHANG)

    def wait(self) -> int:
        """The exit code, once it has ended."""
        code = self._wait(0)
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _wait(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


class Command(Forked):
    """A command of detcfg, by what comes after its name; what it prints is kept."""

    def __init__(self, *arguments: str) -> None:
        self._out, self._err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115 - read afterwards
        super().__init__([*PYTHON, *arguments], stdout=self._out, stderr=self._err)

    @property
    def out(self) -> str:
        return _read(self._out)

    @property
    def err(self) -> str:
        return _read(self._err)


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def _become(command: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """Go on as the command, and end with it."""
    variables = dict(env)
    os.environ.clear()
    os.environ.update(variables)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", closefd=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.argv = ["detcfg", *command[3:]]
    launch.subprocess = SimpleNamespace(Popen=Forked)  # of `--devices`
    code: object
    try:
        run(command[3:])
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - as an interpreter does at its end
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
