"""Modules whose training depends on statistics of earlier steps, which are not in their state dict."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, cast

from torch import nn


class HasTrainingState(nn.Module):
    """A module with such statistics. The checkpoints that a run resumes from hold them, those of weights alone do not."""

    @abstractmethod
    def training_state(self) -> dict[str, Any]:
        """The statistics, as data that JSON can hold."""

    @abstractmethod
    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Go on with what `training_state` returned."""


def training_states(model: nn.Module) -> dict[str, dict[str, Any]]:
    """The training state of each such module of a model, by its name."""
    return {name: part.training_state() for name, part in _modules_of(model)}


def load_training_states(model: nn.Module, states: Mapping[str, Mapping[str, Any]]) -> None:
    """Load what `training_states` returned; modules that it does not name stay as they are."""
    for name, part in _modules_of(model):
        if name in states:
            part.load_training_state(states[name])


def _modules_of(model: nn.Module) -> list[tuple[str, HasTrainingState]]:
    parts = cast("Iterable[tuple[str, nn.Module]]", model.named_modules())
    return [(name, part) for name, part in parts if isinstance(part, HasTrainingState)]
