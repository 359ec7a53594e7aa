"""Run commands in this process, as a person's shell sees them."""

from __future__ import annotations

import pytest

from detcfg.cli.main import run
from tests.support.commands import Command, Outcome


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: str) -> Outcome:
        with pytest.raises(SystemExit) as stopped:
            run(list(arguments))
        captured = capsys.readouterr()
        code = stopped.value.code
        return Outcome(code if isinstance(code, int) else int(code is not None), captured.out, captured.err)

    return call
