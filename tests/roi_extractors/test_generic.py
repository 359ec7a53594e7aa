"""RoIs from every feature map."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from attrs import evolve

from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.layers.conv_module import ConvModuleConfig
from detcfg.layers.generalized_attention import GeneralizedAttentionConfig
from detcfg.roi_extractors.generic import GenericRoIExtractorConfig

FEATURES = tuple(torch.full((2, 4, 32 // 2**i, 32 // 2**i), 10.0**i) for i in range(3))
ROIS = torch.tensor([[0.0, 10.0, 10.0, 60.0, 50.0], [1.0, 30.0, 20.0, 50.0, 90.0]])


@pytest.mark.parametrize(
    ("aggregation", "wanted"), [("sum", [111.0] * 4), ("concat", [1.0] * 4 + [10.0] * 4 + [100.0] * 4)]
)
def test_all_levels_are_summed_or_put_side_by_side(
    aggregation: Literal["sum", "concat"], wanted: list[float]
) -> None:
    config = GenericRoIExtractorConfig(aggregation=aggregation).fed(4, (4, 8, 16))

    pooled = config.build()(FEATURES, ROIS)

    torch.testing.assert_close(torch.tensor(wanted)[:, None, None].expand(2, -1, 7, 7), pooled)


def test_the_bbox_head_reads_as_many_channels_as_come_side_by_side() -> None:
    config = StandardRoIHeadConfig(
        bbox_roi_extractor=GenericRoIExtractorConfig(aggregation="concat"),
        num_classes=3,
        in_channels=4,
        in_strides=(4, 8, 16),
    )
    assert 12 == config.resolved().bbox_head.in_channels


def test_an_image_without_proposals_pools_nothing() -> None:
    config = GenericRoIExtractorConfig(
        pre_cfg=ConvModuleConfig(), post_cfg=GeneralizedAttentionConfig(num_heads=2, q_stride=2)
    )
    extractor = evolve(config.fed(4, (4, 8, 16)), aggregation="sum").build()

    assert extractor(FEATURES, ROIS[:0]).shape == (0, 4, 7, 7)
