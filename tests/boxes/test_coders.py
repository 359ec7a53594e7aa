"""Coders: what is encoded decodes to itself, and codes are what their equations say."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from detcfg.boxes.coders.base import BBoxCoderConfig
from detcfg.boxes.coders.bucketing import BucketingBBoxCoderConfig
from detcfg.boxes.coders.delta_xywh import MAX_LOG_RATIO, DeltaXYWHBBoxCoderConfig
from detcfg.boxes.coders.distance_point import DistancePointBBoxCoderConfig
from detcfg.boxes.coders.tblr import TBLRBBoxCoderConfig
from tests.support.worlds import SEEDS, boxes, generator

STDS = st.tuples(*[st.floats(0.05, 2.0)] * 4)
MEANS = st.tuples(*[st.floats(-1.0, 1.0)] * 4)
CODERS = st.one_of(
    st.builds(DeltaXYWHBBoxCoderConfig, target_means=MEANS, target_stds=STDS),
    st.builds(
        DeltaXYWHBBoxCoderConfig,
        add_ctr_clamp=st.just(value=True),
        ctr_clamp=st.just(10**4),
        target_stds=STDS,
    ),
    st.builds(TBLRBBoxCoderConfig, normalizer=st.one_of(st.floats(0.1, 8.0), STDS)),
)
"""Those that any box can be encoded by."""


@given(CODERS, SEEDS, st.integers(0, 9))
def test_a_box_comes_back_from_its_code(coder: BBoxCoderConfig, seed: int, count: int) -> None:
    draw = generator(seed)
    priors, wanted = boxes(count, draw), boxes(count, draw)

    code = coder.encode(priors, wanted)

    assert code.shape == (count, coder.encode_size)
    assert_close(coder.decode(priors, code), wanted, atol=2e-3, rtol=1e-4)


@given(CODERS, SEEDS)
def test_a_code_comes_back_from_its_box(coder: BBoxCoderConfig, seed: int) -> None:
    draw = generator(seed)
    priors, code = boxes(5, draw), coder.encode(boxes(5, draw), boxes(5, draw))

    assert_close(coder.encode(priors, coder.decode(priors, code)), code, atol=2e-3, rtol=2e-3)


@given(SEEDS, st.integers(0, 9))
def test_a_box_comes_back_from_its_distances_to_a_point(seed: int, count: int) -> None:
    draw = generator(seed)
    points, wanted = 60 * torch.rand(count, 2, generator=draw), boxes(count, draw)
    coder = DistancePointBBoxCoderConfig()

    assert_close(coder.decode(points, coder.encode(points, wanted)), wanted)
    bounded = coder.encode(points, wanted, max_dis=20)
    assert ((bounded >= 0) & (bounded < 20)).all()


@given(SEEDS, st.integers(5, 100), st.integers(5, 100))
def test_decoded_boxes_are_kept_in_the_image_where_that_is_asked_for(
    seed: int, height: int, width: int
) -> None:
    draw = generator(seed)
    priors, code = boxes(6, draw), 3 * torch.randn(6, 4, generator=draw)
    points = (priors[:, :2] + priors[:, 2:]) / 2
    for coder, source, pred in (
        (DeltaXYWHBBoxCoderConfig(), priors, code),
        (TBLRBBoxCoderConfig(), priors, code),
        (DistancePointBBoxCoderConfig(), points, 30 * code.abs()),
        (BucketingBBoxCoderConfig(num_buckets=10), priors, torch.randn(6, 40, generator=draw)),
    ):
        found = coder.decode(source, pred, max_shape=(height, width))
        assert (found >= 0).all()
        assert (found <= torch.tensor([width, height] * 2)).all()


def test_deltas_are_what_the_equation_says() -> None:
    """A prior of 10x20 around (5, 10), and a box of 20x10 around (10, 25)."""
    code = DeltaXYWHBBoxCoderConfig().encode(
        torch.tensor([[0.0, 0.0, 10.0, 20.0]]), torch.tensor([[0.0, 20.0, 20.0, 30.0]])
    )

    log2 = 0.6931471806
    assert_close(code, torch.tensor([[0.5, 0.75, log2, -log2]]))


@pytest.mark.parametrize("bound_shrinking", [True, False])
def test_growth_is_bounded_and_shrinking_where_asked_for(*, bound_shrinking: bool) -> None:
    coder = DeltaXYWHBBoxCoderConfig(bound_shrinking=bound_shrinking)
    priors = torch.tensor([[0.0, 0.0, 16.0, 16.0]]).expand(2, 4)
    found = coder.decode(priors, torch.tensor([[0.0, 0.0, 99.0, 99.0], [0.0, 0.0, -9.0, -9.0]]))

    sides = found[:, 2] - found[:, 0]
    assert_close(sides[0].log() - torch.tensor(16.0).log(), torch.tensor(MAX_LOG_RATIO))
    assert_close(
        sides[1], torch.tensor(0.256 if bound_shrinking else 16 * 2.718281828**-9), rtol=1e-3, atol=0
    )
