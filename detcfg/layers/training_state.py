"""Parts that learn by what earlier steps were like, which is not among their weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, cast

from torch import nn


class HasTrainingState(nn.Module):
    """A module with such a memory. Checkpoints of a training hold it, those of a model do not."""

    @abstractmethod
    def training_state(self) -> dict[str, Any]:
        """What it remembers, as plain data."""

    @abstractmethod
    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Remember what `training_state` gave."""


def training_states(model: nn.Module) -> dict[str, dict[str, Any]]:
    """What the parts of a model remember, by their names."""
    return {name: part.training_state() for name, part in _those_of(model)}


def load_training_states(model: nn.Module, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Give the parts of a model what `training_states` gave."""
    for name, part in _those_of(model):
        if name in found:
            part.load_training_state(found[name])


def _those_of(model: nn.Module) -> list[tuple[str, HasTrainingState]]:
    parts = cast("Iterable[tuple[str, nn.Module]]", model.named_modules())
    return [(name, part) for name, part in parts if isinstance(part, HasTrainingState)]
