"""Figures that noise in the weights moves are excused, and a small fault of a model is not."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from tests.support import golden
from tests.support.golden import Expected, Numbers, judge


class Weight(nn.Module):
    """A model of one weight, and figures of it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dtype=torch.float64), requires_grad=False)
        self.computed = 0

    def figures(self, **functions: Callable[[float], float]) -> Callable[[], Numbers]:
        """What is computed from the weight; twenty more figures are the weight itself."""

        def compute() -> Numbers:
            self.computed += 1
            weight = float(self.weight)
            plain = {f"plain {number}": weight for number in range(20)}
            return plain | {name: function(weight) for name, function in functions.items()}

        return compute


def expected(**values: float) -> dict[str, Expected]:
    """The plain figures agree; the others have these values, within a thousandth."""
    agree = {f"plain {number}": Expected(1, 1e-3) for number in range(20)}
    return agree | {name: Expected(value, 1e-3) for name, value in values.items()}


def above_one(weight: float) -> float:
    """Steps where the weight is."""
    return float(weight > 1)


def test_where_all_agree_no_noise_is_drawn() -> None:
    model = Weight()

    assert not judge(expected(area=1.0005), model, model.figures(area=float))
    assert model.computed == 1


def test_what_steps_at_the_weight_is_excused_as_soon_as_it_steps() -> None:
    model = Weight()

    assert not judge(expected(area=1), model, model.figures(area=above_one))
    assert 2 <= model.computed <= 1 + golden.DRAWS


def test_what_steps_elsewhere_is_wrong_after_all_draws() -> None:
    model = Weight()
    (wrong,) = judge(expected(area=1), model, model.figures(area=lambda weight: above_one(weight - 1e-3)))

    assert wrong == "area is 0, and 1 in MMDetection, within 0.001; noise moves it by 0"
    assert model.computed == 1 + golden.DRAWS


def test_a_figure_may_miss_by_three_times_as_far_as_it_moves_and_no_more() -> None:
    for gap, right in (
        (1.5e-3, True),
        (5e-2, False),
    ):  # draws of 1e-6 move 1000 times the weight by about 2e-3
        model = Weight()
        wrong = judge(expected(steep=1000 + gap), model, model.figures(steep=lambda weight: 1000 * weight))
        assert (not wrong) == right


def test_a_figure_that_comes_and_goes_is_excused_and_one_that_is_never_there_is_wrong() -> None:
    def there(weight: float) -> float:
        return 1.0 if weight > 1 else float("nan")

    model = Weight()
    assert not judge(expected(box=1), model, model.figures(box=there))
    (wrong,) = judge(expected(box=1), model, model.figures(box=lambda _: float("nan")))
    assert wrong.startswith("box is nan, and 1 in MMDetection")


def test_a_model_that_noise_moves_throughout_is_wrong() -> None:
    model = Weight()
    steps = {f"step {number}": above_one for number in range(3)}
    wrong = judge(expected(**dict.fromkeys(steps, 1.0)), model, model.figures(**steps))

    assert len(wrong) == len(steps)


def test_figures_that_only_one_program_has_are_named() -> None:
    model = Weight()

    assert judge(expected(mask=1), model, model.figures(box=float)) == [
        "box: only one program has it",
        "mask: only one program has it",
    ]


def test_noise_leaves_the_weights_as_they_were() -> None:
    model = Weight()
    judge(expected(area=9), model, model.figures(area=float))

    assert model.weight == 1
