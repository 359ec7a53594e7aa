"""torchvision's operators as detcfg calls them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from torchvision import ops as torchvisions

from detcfg import ops
from detcfg.boxes.nms import apart

ROIS = torch.tensor([[0.0, 1, 2, 30, 40], [1, 0, 0, 63, 50], [1, 10, 10, 11, 11], [0, -5, 30, 80, 90]])


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def pooled_and_gradient(function: object, features: Tensor, rois: Tensor) -> tuple[Tensor, Tensor]:
    leaf = features.clone().requires_grad_()
    pooled = function(leaf, rois, (7, 5), spatial_scale=0.25, sampling_ratio=0, aligned=True)  # type: ignore[operator]
    weights = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(0)).to(pooled.dtype)
    (gradient,) = torch.autograd.grad((pooled * weights).sum(), leaf)
    return pooled, gradient


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("rois", [ROIS, ROIS[:0]], ids=["rois", "no rois"])
def test_roi_align_in_threads_is_torchvisions_bit_for_bit_with_its_gradient(
    channels: int, memory_format: torch.memory_format, rois: Tensor
) -> None:
    features = torch.randn(2, channels, 16, 20).contiguous(memory_format=memory_format)

    own = pooled_and_gradient(ops.roi_align, features, rois)
    theirs = pooled_and_gradient(torchvisions.roi_align, features, rois)

    assert_close(own, theirs, rtol=0, atol=0)
    assert own[1].is_contiguous(memory_format=memory_format)


@pytest.mark.usefixtures("two_threads")
def test_roi_align_in_threads_takes_the_half_precision_of_autocast() -> None:
    features = torch.randn(2, 4, 16, 20).bfloat16()

    with torch.autocast("cpu", torch.bfloat16):
        own = pooled_and_gradient(ops.roi_align, features, ROIS)
        theirs = pooled_and_gradient(torchvisions.roi_align, features, ROIS)

    assert own[0].dtype == own[1].dtype == torch.bfloat16
    assert_close(own, theirs)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_roi_align_in_threads_keeps_nothing_where_no_gradient_is_asked_for(mode: type) -> None:
    features = torch.randn(2, 4, 16, 20, requires_grad=True)

    with mode():
        pooled = ops.roi_align(features, ROIS, (7, 7))

    assert not pooled.requires_grad
    assert_close(pooled, torchvisions.roi_align(features, ROIS, 7, sampling_ratio=0, aligned=True).detach())


@pytest.mark.usefixtures("two_threads")
def test_an_error_in_a_thread_is_raised() -> None:
    with pytest.raises(RuntimeError):
        ops.roi_align(torch.randn(2, 4, 16, 20), ROIS[:, :4], (7, 7))


@given(seed=st.integers(0, 10_000), count=st.integers(1, 60), ties=st.booleans())
def test_nms_of_known_groups_gives_what_it_gives_without_knowing_them(
    seed: int, count: int, *, ties: bool
) -> None:
    chance = torch.Generator().manual_seed(seed)
    corner, extent = (torch.rand(count, 2, generator=chance) * 40 for _ in range(2))
    groups = torch.randint(0, 4, (count,), generator=chance)
    boxes = apart(torch.cat([corner, corner + extent], 1), groups)
    scores = torch.rand(count, generator=chance)
    scores = (scores * 3).round() if ties else scores

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ops, "MANY", 0)
        grouped = ops.nms(boxes, scores, 0.4, groups)

    assert grouped.tolist() == ops.nms(boxes, scores, 0.4).tolist()
