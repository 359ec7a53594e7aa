"""Every experiment that MMDetection has too computes what MMDetection computes."""

from __future__ import annotations

from pathlib import Path

import pytest

from detcfg import load_experiment
from detcfg.detectors.base import DetectorConfig
from tests.support import golden

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
NAMES = sorted(path.stem for path in EXPERIMENTS.glob("*.py"))


@pytest.mark.parametrize("name", [name for name in golden.names() if name in NAMES])
def test_state_dict_losses_gradients_and_detections_are_mmdetections(name: str) -> None:
    config: DetectorConfig = golden.as_made(load_experiment(EXPERIMENTS / f"{name}.py").resolved().model)
    golden.check_state_dict(name, config)
    model = golden.filled(config, name)
    golden.check_detections(name, model)
    golden.check_losses(name, model)
