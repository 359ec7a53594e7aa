"""RoIAlign as a product with few weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from torchvision import ops as torchvisions

from detcfg.layers import roi_align as module
from detcfg.layers.roi_align import roi_align, weighted_roi_align

ROIS = torch.tensor([[0.0, 1, 2, 30, 40], [1, 0, 0, 63, 50], [1, 10, 10, 11, 11], [0, -5, 30, 80, 90]])


def random_rois(seed: int, count: int) -> Tensor:
    """Some of them empty, beyond the image or as large as it."""
    chance = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=chance) * 140 - 30
    extent = torch.rand(count, 2, generator=chance) ** 3 * 130
    extent[torch.rand(count, generator=chance) < 0.1] = 0
    images = torch.randint(0, 2, (count, 1), generator=chance)
    return torch.cat([images, corner, corner + extent], 1)


@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 6),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    map_size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    scale=st.sampled_from([1.0, 0.25, 0.125]),
    ratio=st.integers(0, 3),
    aligned=st.booleans(),
    memory_format=st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
@settings(deadline=None)
def test_it_is_torchvisions_with_its_gradient(
    seed: int,
    count: int,
    size: tuple[int, int],
    map_size: tuple[int, int],
    *,
    scale: float,
    ratio: int,
    aligned: bool,
    memory_format: torch.memory_format,
) -> None:
    rois = random_rois(seed, count)
    features = torch.randn(2, 16, *map_size).contiguous(memory_format=memory_format).requires_grad_()

    own = weighted_roi_align(features, rois, size, spatial_scale=scale, sampling_ratio=ratio, aligned=aligned)
    theirs = torchvisions.roi_align(features, rois, size, scale, ratio, aligned)

    assert own is not None
    assert_close(own, theirs, rtol=1e-4, atol=2e-4)
    weights = torch.randn(own.shape)
    gradients = (torch.autograd.grad((pooled * weights).sum(), features) for pooled in (own, theirs))
    assert_close(*gradients, rtol=1e-4, atol=2e-4)


def test_what_does_not_pay_is_left_to_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    def tried(features: Tensor, rois: Tensor) -> Tensor | None:
        return weighted_roi_align(features, rois, (7, 7), spatial_scale=1.0, sampling_ratio=0, aligned=True)

    assert tried(torch.randn(2, 16, 64, 64), ROIS) is not None
    assert tried(torch.randn(2, 15, 64, 64), ROIS) is None
    assert tried(torch.randn(2, 16, 64, 64), ROIS[:0]) is None
    assert tried(torch.randn(2, 16, 64, 64), ROIS * torch.nan) is None
    monkeypatch.setattr(module, "MAX_WEIGHTS", 1000)
    assert tried(torch.randn(2, 16, 64, 64), ROIS) is None


@pytest.mark.parametrize("channels", [2, 16])
@pytest.mark.parametrize("count", [0, 4])
def test_the_operator_chooses_by_itself_and_gives_the_type_of_the_features(channels: int, count: int) -> None:
    features = torch.randn(2, channels, 16, 20).bfloat16()

    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        own = roi_align(features, ROIS[:count], (7, 5), spatial_scale=0.25)
        theirs = torchvisions.roi_align(features, ROIS[:count], (7, 5), 0.25, 0, aligned=True)

    assert own.dtype == torch.bfloat16
    assert_close(own, theirs)
