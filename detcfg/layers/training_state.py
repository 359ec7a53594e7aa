"""Parts whose training depends on earlier steps, beyond their weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, cast

from torch import nn


class HasTrainingState(nn.Module):
    """A module with a state of its training. Checkpoints to resume from hold it, files of weights do not."""

    @abstractmethod
    def training_state(self) -> dict[str, Any]:
        """The state, as plain data."""

    @abstractmethod
    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `training_state` gave."""


def training_states(model: nn.Module) -> dict[str, dict[str, Any]]:
    """The training states of a model's parts, by module name."""
    return {name: part.training_state() for name, part in _those_of(model)}


def load_training_states(model: nn.Module, states: Mapping[str, Mapping[str, Any]]) -> None:
    """Restore the training states of a model's parts; a part that is not named keeps its state."""
    for name, part in _those_of(model):
        if name in states:
            part.load_training_state(states[name])


def _those_of(model: nn.Module) -> list[tuple[str, HasTrainingState]]:
    parts = cast("Iterable[tuple[str, nn.Module]]", model.named_modules())
    return [(name, part) for name, part in parts if isinstance(part, HasTrainingState)]
