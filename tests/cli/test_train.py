"""`detcfg train` says where the weights are and what to do with them."""

from __future__ import annotations

import shlex
from pathlib import Path

from tests.support.commands import Command

EXPERIMENT = Path(__file__).parents[1] / "support" / "certain.py"


def test_the_command_that_a_training_ends_with_judges_its_weights(tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "a run"
    trained = command("train", str(EXPERIMENT), "--work-dir", str(folder), "trainer.epochs=1")
    assert trained.code == 0, trained.err
    last = trained.out.splitlines()[-1]
    assert last.startswith(f"Trained in {folder}. Next: detcfg eval ")

    program, *arguments = shlex.split(last.partition("Next: ")[2].partition(", ")[0])
    judged = command(*arguments)
    assert program == "detcfg"
    assert judged.code == 0, judged.err
    assert "AP50" in judged.out
