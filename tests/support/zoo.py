"""What MMDetection builds from each of its configs: a fingerprint of the state dict's names and shapes."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Any

import pytest
import torch
from attrs import evolve

from detcfg.config import is_unset
from detcfg.detectors.base import DetectorConfig
from tests.support.paths import GOLDENS


@cache
def _zoo() -> dict[str, dict[str, Any]]:
    path = GOLDENS / "zoo.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there; set DETCFG_SHARED to the folder of the shared data")
    zoo: dict[str, dict[str, Any]] = json.loads(path.read_text())
    return zoo


def check_state_dict(mmdet_config: str, config: DetectorConfig) -> None:
    """Both programs have the same parameters, by name and shape."""
    wanted = _zoo()[mmdet_config]
    if is_unset(config.num_classes):
        config = evolve(config, num_classes=80)
    with torch.device("meta"):
        model = config.build()
    state = model.state_dict()
    lines = [f"{name} {'x'.join(map(str, state[name].shape))}" for name in sorted(state)]

    assert len(state) == wanted["tensors"]
    assert sum(p.numel() for p in model.parameters()) == wanted["parameters"]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == wanted["sha256"]
