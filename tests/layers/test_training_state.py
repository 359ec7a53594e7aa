"""The state of a training that is not among the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from detcfg.layers.training_state import HasTrainingState, load_training_states, training_states

if TYPE_CHECKING:
    from collections.abc import Mapping


class Counts(HasTrainingState):
    count: int = 0

    def training_state(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        self.count = state["count"]


def model(*counts: int) -> tuple[nn.Module, list[Counts]]:
    parts = [Counts() for _ in counts]
    for part, count in zip(parts, counts, strict=True):
        part.count = count
    return nn.Sequential(nn.Linear(2, 2), nn.Sequential(parts[0]), *parts[1:]), parts


def test_the_parts_that_have_a_state_are_named_by_their_module() -> None:
    assert training_states(model(3, 5)[0]) == {"1.0": {"count": 3}, "2": {"count": 5}}


def test_a_state_is_restored_and_a_part_that_is_not_named_keeps_its_own() -> None:
    other, parts = model(0, 7)
    load_training_states(other, {"1.0": {"count": 3}})
    assert [part.count for part in parts] == [3, 7]


def test_it_is_no_part_of_the_weights() -> None:
    assert set(model(3)[0].state_dict()) == {"0.weight", "0.bias"}
