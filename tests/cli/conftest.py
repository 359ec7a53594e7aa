"""Run commands in this process, as a person's shell sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest
from attrs import frozen

from detcfg.cli.main import run


@frozen
class Outcome:
    """What a command left."""

    code: int
    out: str
    err: str


Command: TypeAlias = Callable[..., Outcome]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: str) -> Outcome:
        with pytest.raises(SystemExit) as stopped:
            run(list(arguments))
        captured = capsys.readouterr()
        code = stopped.value.code
        return Outcome(code if isinstance(code, int) else int(code is not None), captured.out, captured.err)

    return call
