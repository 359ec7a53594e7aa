"""Every model for which MMDetection's figures are here computes what MMDetection computes."""

from __future__ import annotations

import pytest

from tests.support import figures, golden
from tests.support.experiments import NAMES, experiment


@pytest.mark.parametrize("name", [name for name in figures.model_names() if name in NAMES])
def test_state_dict_losses_gradients_and_detections_are_mmdetections(name: str) -> None:
    model = golden.filled(golden.as_made(experiment(name).resolved().model))
    golden.check_state_dict(name, model)
    golden.check_detections(name, model)
    golden.check_losses(name, model)
