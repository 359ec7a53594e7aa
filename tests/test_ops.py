"""torchvision's operators as detcfg calls them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detcfg import ops
from detcfg.boxes.nms import offset_by_group


@given(seed=st.integers(0, 10_000), count=st.integers(1, 60), ties=st.booleans())
def test_nms_of_known_groups_gives_what_it_gives_without_knowing_them(
    seed: int, count: int, *, ties: bool
) -> None:
    chance = torch.Generator().manual_seed(seed)
    corner, extent = (torch.rand(count, 2, generator=chance) * 40 for _ in range(2))
    groups = torch.randint(0, 4, (count,), generator=chance)
    boxes = offset_by_group(torch.cat([corner, corner + extent], 1), groups)
    scores = torch.rand(count, generator=chance)
    scores = (scores * 3).round() if ties else scores

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ops, "MANY", 0)
        grouped = ops.nms(boxes, scores, 0.4, groups)

    assert grouped.tolist() == ops.nms(boxes, scores, 0.4).tolist()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_deformable_convolution_survives_offsets_that_are_no_numbers(value: float) -> None:
    features = torch.randn(1, 4, 8, 8, requires_grad=True)
    weight, offset = torch.randn(5, 4, 3, 3), torch.zeros(1, 18, 8, 8)
    offset[:, :, 2, 3] = value
    offset.requires_grad_()
    geometry = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}

    out = ops.deform_conv2d(features, offset, weight, None, **geometry)
    out.sum().backward()

    plain = torch.nn.functional.conv2d(features, weight, padding=1)
    elsewhere = torch.ones(8, 8, dtype=torch.bool)
    elsewhere[2, 3] = False
    torch.testing.assert_close(out[..., elsewhere], plain[..., elsewhere], rtol=1e-4, atol=1e-4)
    assert bool(out[..., 2, 3].isnan().all()) == math.isnan(value)
    assert out[..., 2, 3].isfinite().all() or math.isnan(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", range(5))
def test_rois_that_are_not_finite_pool_nan_and_the_others_what_they_pooled(column: int, value: float) -> None:
    features = torch.randn(2, 4, 8, 8, requires_grad=True)
    rois = torch.tensor([[0.0, 1, 1, 6, 6], [1, 2, 2, 7, 7], [0, 1, 1, 6, 6]])
    alone = ops.roi_align(features, rois, (2, 2))
    rois[1, column] = value

    pooled = ops.roi_align(features, rois, (2, 2))

    assert pooled[1].isnan().all()
    assert pooled[::2].equal(alone[::2])
    pooled[::2].sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
