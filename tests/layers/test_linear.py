"""Linear predictors."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from detcfg.layers.linear import LinearConfig, NormedLinearConfig

X = torch.randn(5, 6)


def test_an_ordinary_predictor_is_a_linear_layer() -> None:
    layer = LinearConfig().build_for(6, 3)
    torch.testing.assert_close(X @ layer.weight.T + layer.bias, layer(X))


def test_a_normed_predictor_gives_the_scaled_cosine_of_input_and_weights() -> None:
    layer = NormedLinearConfig(temperature=30.0).build_for(6, 3)
    cosine = F.cosine_similarity(X[:, None], layer.weight[None], dim=2)

    torch.testing.assert_close(30 * cosine + layer.bias, layer(X), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer(X), layer(7 * X), rtol=1e-4, atol=1e-4)


def test_with_a_power_of_zero_norms_do_not_count() -> None:
    layer = NormedLinearConfig(temperature=1.0, power=0.0, eps=0.0).build_for(6, 3)
    torch.testing.assert_close(X @ layer.weight.T + layer.bias, layer(X))
