"""Boxes by buckets."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detcfg.boxes.coders.bucketing import BucketingBBoxCoderConfig
from detcfg.config import ConfigError
from detcfg.heads.bbox.sabl_head import SABLHeadConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig

PRIOR = torch.tensor([[20.0, 40.0, 90.0, 110.0]])  # 70 pixels: buckets of 7 with num_buckets=10 and no factor
CODER = BucketingBBoxCoderConfig(num_buckets=10, scale_factor=1.0)


@given(st.tuples(*[st.floats(-8, 8)] * 4), st.sampled_from([7, 10, 14]), st.floats(1.0, 3.0))
def test_a_box_comes_back_from_its_code(
    shift: tuple[float, ...], num_buckets: int, scale_factor: float
) -> None:
    coder = BucketingBBoxCoderConfig(num_buckets=num_buckets, scale_factor=scale_factor)
    box = PRIOR + torch.tensor(shift)

    torch.testing.assert_close(box, coder.decode(PRIOR, coder.encode(PRIOR, box)), atol=1e-3, rtol=0)


def test_a_code_says_the_nearest_bucket_and_the_offset_from_its_centre() -> None:
    """The left side at 32 is in the second bucket, centred at 30.5; the others are in their first."""
    code = CODER.encode(PRIOR, torch.tensor([[32.0, 43.5, 86.5, 106.5]])).view(2, 4, 5)

    assert [1, 0, 0, 0] == code[0].argmax(dim=1).tolist()
    torch.testing.assert_close(
        torch.tensor([-1.5 / 7, 0.0, 0.0, 0.0]), code[1].gather(1, code[0].argmax(1)[:, None])[:, 0]
    )


@pytest.mark.parametrize(("upper_bound", "learnt"), [(1.0, 2), (0.5, 1)])
def test_offsets_are_learnt_from_the_nearest_buckets_and_neighbours_are_not_wrong(
    upper_bound: float, learnt: int
) -> None:
    coder = BucketingBBoxCoderConfig(num_buckets=10, scale_factor=1.0, offset_upperbound=upper_bound)
    weights = coder.weights(PRIOR, torch.tensor([[32.0, 43.5, 86.5, 106.5]])).view(2, 4, 5)

    assert [1, 1, 0, 1, 1] == weights[0, 0].tolist()  # 32 is within 7 of the bucket centred at 37.5
    assert learnt == weights[1, 0].sum()
    assert [1, 0, 0, 0, 0] == weights[1, 1].tolist()  # exactly one bucket from the second


def test_a_side_between_two_buckets_is_as_sure_as_one_in_a_bucket() -> None:
    logits = torch.full((3, 4, 5), -50.0)
    logits[0, :, 1] = 50  # one bucket
    logits[1, :, 1:3] = 50  # two neighbours
    logits[2, :, 1] = logits[2, :, 4] = 50  # two far apart
    pred = torch.cat([logits.flatten(1), torch.zeros(3, 20)], dim=1)

    torch.testing.assert_close(torch.tensor([1.0, 1.0, 0.5]), CODER.confidence(pred))


def test_boxes_are_kept_within_the_image() -> None:
    code = CODER.encode(PRIOR, PRIOR)
    assert [20, 40, 79, 89] == CODER.decode(PRIOR, code, max_shape=(90, 80)).squeeze(0).tolist()


def test_buckets_that_do_not_fit_the_pooled_features_are_an_error() -> None:
    head = SABLHeadConfig(
        num_classes=2, in_channels=4, roi_feat_size=7, bbox_coder=BucketingBBoxCoderConfig(num_buckets=16)
    )
    with pytest.raises(
        ConfigError, match=r"num_buckets is 16, but roi_feat_size=7 times reg_feat_up_ratio=2"
    ):
        head.resolved()


def test_a_loss_that_would_do_nothing_is_an_error() -> None:
    with pytest.raises(ConfigError, match="loss_bbox_cls and loss_bbox_reg"):
        SABLHeadConfig(
            num_classes=2, in_channels=4, roi_feat_size=7, loss_bbox=SmoothL1LossConfig()
        ).resolved()
