"""Coordinates as feature maps."""

from __future__ import annotations

import torch

from detcfg.layers.coordinates import coordinate_maps, with_coordinates


def test_x_comes_first_and_both_run_from_minus_one_to_one() -> None:
    x, y = coordinate_maps(torch.zeros(1, 7, 2, 3))[0]

    assert x.tolist() == [[-1, 0, 1], [-1, 0, 1]]
    assert y.tolist() == [[-1, -1, -1], [1, 1, 1]]


def test_they_stand_behind_the_features_of_each_image() -> None:
    features = torch.randn(4, 5, 2, 3)
    out = with_coordinates(features)

    assert torch.equal(features, out[:, :5])
    assert torch.equal(coordinate_maps(features), out[:, 5:])
    assert out.shape == (4, 7, 2, 3)
