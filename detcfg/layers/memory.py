"""Parts that learn by what earlier steps were like, which is not among their weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, cast

from torch import nn


class Remembers(nn.Module):
    """A module with such a memory. Checkpoints of a training hold it, those of a model do not."""

    @abstractmethod
    def memory(self) -> dict[str, Any]:
        """What it remembers, as plain data."""

    @abstractmethod
    def recall(self, memory: Mapping[str, Any]) -> None:
        """Remember what `memory` gave."""


def memories(model: nn.Module) -> dict[str, dict[str, Any]]:
    """What the parts of a model remember, by their names."""
    return {name: part.memory() for name, part in _those_of(model)}


def recall(model: nn.Module, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Give the parts of a model what `memories` found."""
    for name, part in _those_of(model):
        if name in found:
            part.recall(found[name])


def _those_of(model: nn.Module) -> list[tuple[str, Remembers]]:
    parts = cast("Iterable[tuple[str, nn.Module]]", model.named_modules())
    return [(name, part) for name, part in parts if isinstance(part, Remembers)]
