"""A trained factor."""

from __future__ import annotations

import torch

from detcfg.layers.scale import Scale


def test_it_multiplies_and_its_gradient_is_the_sum_of_the_input() -> None:
    scale, x = Scale(3.0), torch.tensor([1.0, 2.0, -5.0])
    out = scale(x)
    out.sum().backward()

    assert out.tolist() == [3.0, 6.0, -15.0]
    assert scale.scale.grad == -2.0
    assert set(scale.state_dict()) == {"scale"}
