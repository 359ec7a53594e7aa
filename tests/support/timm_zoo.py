"""The sweep of `nox -s timm`: one model of every module of timm that is installed."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from typing import Any

import torch

from detcfg.backbones.maps import difference
from detcfg.backbones.meta import weights_on_meta
from detcfg.backbones.timm import TimmBackboneConfig
from detcfg.config import ConfigError

SIZE = (320, 352)
"""(height, width): another than the config tries."""


def one_of_each_module() -> list[str]:
    """The model of each module of timm whose name has the smallest numbers."""
    registry: Any = import_module("timm.models._registry")
    names: dict[str, list[str]] = {}
    for name in import_module("timm").list_models():
        names.setdefault(registry._model_to_module[name], []).append(name)
    return [min(group, key=_weight) for _, group in sorted(names.items())]


def _weight(name: str) -> tuple[int, str]:
    return sum(map(int, re.findall(r"\d+", name))), name


def verdict(name: str) -> str:
    """Whether a model's maps are as declared; why it is refused; or, after "wrong: ", what the config does not say."""
    config = TimmBackboneConfig(name=name)
    try:
        config = config.resolved()
        with weights_on_meta(), torch.no_grad():
            maps = config.build().eval()(torch.empty(1, 3, *SIZE))
    except ConfigError as error:
        return f"refused: {error}" if name in str(error) else f"wrong: {error}"
    except Exception as error:  # noqa: BLE001 - whatever a model of timm does
        return f"unknown: {error}" if "meta" in str(error) else f"wrong: {error}"
    found = difference(maps, config.feature_channels, config.feature_strides, SIZE)
    return f"wrong: {found}" if found else "as declared"


def sweep(names: list[str]) -> int:
    """Print the verdict on each model; how many are wrong."""
    wrong = 0
    for name in names:
        said = verdict(name)
        wrong += said.startswith("wrong")
        print(f"{name}: {said.splitlines()[0]}", flush=True)  # noqa: T201
    return wrong


if __name__ == "__main__":
    sys.exit(min(sweep(sys.argv[1:] or one_of_each_module()), 1))
