"""The shipped experiments, each loaded once in a process."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

import pytest

from detcfg import load_experiment
from detcfg.experiment import ExperimentConfig

FOLDER: Final = Path(__file__).parents[2] / "experiments"
NAMES: Final = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")

every_experiment = pytest.mark.parametrize("name", NAMES)


@cache
def experiment(name: str) -> ExperimentConfig:
    """The experiment as its file has it, with what is derived left open."""
    return load_experiment(FOLDER / f"{name}.py")
