"""The heads of SOLO."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attrs import evolve
from torch import tensor
from torch.testing import assert_close

from detcfg.backbones.resnet import ResNetConfig
from detcfg.config import ConfigError
from detcfg.experiments import solo
from detcfg.heads.instance.decoupled_solo_head import (
    DecoupledSOLOHead,
    DecoupledSOLOHeadConfig,
    DecoupledSOLOLightHeadConfig,
)
from detcfg.heads.instance.solo_head import SOLOHeadConfig
from detcfg.heads.instance.solo_targets import GridTargetMaker
from detcfg.heads.instance.solov2_head import SOLOV2Head, SOLOV2HeadConfig
from detcfg.heads.instance.solov2_mask_feat import SOLOV2MaskFeatModuleConfig
from detcfg.layers.deform_conv import DCNv2Config
from tests.support import zoo
from tests.support.dense import SIZE, batch, built, features, objects

SMALL: dict[str, Any] = {"num_grids": (8, 6, 5, 4, 3), "stacked_convs": 1}


def targets_of(*boxes: tuple[float, float, float, float], pos_scale: float = 0.2, grid: int = 4) -> Any:
    maker = GridTargetMaker(
        num_classes=3, num_grids=(grid,), scale_ranges=((1, 999),), pos_scale=pos_scale, shared_cells=False
    )
    return maker(objects(*boxes), SIZE)[0]


def test_the_cell_at_an_objects_centre_learns_it() -> None:
    # Cells are 48 x 32 pixels; the centre (72, 48) lies in row 1, column 1.
    found = targets_of((67.0, 43.0, 78.0, 54.0))

    assert found.cells.tolist() == [5]
    assert found.labels.tolist() == [3] * 5 + [0] + [3] * 10


def test_the_cells_of_an_objects_core_learn_it_three_by_three_at_most() -> None:
    found = targets_of((0.0, 0.0, 192.0, 128.0), pos_scale=1.0, grid=5)

    assert found.cells.tolist() == [6, 7, 8, 11, 12, 13, 16, 17, 18]


def test_an_object_without_pixels_is_no_target() -> None:
    assert targets_of((67.0, 43.0, 67.0, 43.0)).cells.tolist() == []


def test_a_decoupled_mask_is_the_product_of_its_column_and_its_row() -> None:
    head = built(DecoupledSOLOHeadConfig(**SMALL))
    assert isinstance(head, DecoupledSOLOHead)
    predictions = head(features(1))
    columns, rows = (maps[0][0].sigmoid() for maps in predictions.masks)

    masks = head.cell_masks(predictions, 0, 0, tensor([8 * 3 + 5]))

    assert_close(masks[0], columns[5] * rows[3])


every_head = pytest.mark.parametrize(
    "config",
    [
        SOLOHeadConfig(**SMALL),
        DecoupledSOLOHeadConfig(**SMALL),
        DecoupledSOLOLightHeadConfig(**SMALL),
        SOLOV2HeadConfig(**SMALL, dynamic_conv_size=3),
    ],
    ids=lambda config: type(config).__name__,
)


@every_head
@pytest.mark.parametrize("levels", [(), (1,), (0, 4)])
def test_levels_without_a_candidate_give_no_detection(
    config: SOLOHeadConfig, levels: tuple[int, ...]
) -> None:
    # A threshold of 0 on the masks, that whatever is found counts.
    test_cfg = evolve(config.test_cfg, mask_thr=0.0, filter_thr=0.0)
    head = built(evolve(config, test_cfg=test_cfg)).eval()
    plain = type(head).forward

    def forward(self: Any, maps: Any) -> Any:
        predictions = plain(self, maps)
        scores = [torch.full_like(level, -9.0) for level in predictions.cls_scores]
        for level in levels:
            scores[level][0, 1, 2, 2] = 9.0
        return evolve(predictions, cls_scores=tuple(scores))

    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(type(head), "forward", forward)
        (found,) = head.predict(features(1), batch(1))

    assert found.labels.tolist() == [1] * len(levels)
    assert found.masks is not None
    assert len(found.masks) == len(levels)


@every_head
def test_losses_are_finite_with_and_without_objects(config: SOLOHeadConfig) -> None:
    head = built(config)
    one, none = objects((20.0, 30.0, 100.0, 90.0)), objects()

    for targets in ([one, none], [none, none]):
        losses = head.loss(features(), batch(), targets)
        assert all(loss.isfinite() for loss in losses.values())
        torch.stack(list(losses.values())).sum().backward()


@torch.no_grad()
def test_masks_come_in_the_size_of_the_output() -> None:
    config = SOLOHeadConfig(**SMALL)
    head = built(
        evolve(config, test_cfg=evolve(config.test_cfg, score_thr=0.0, mask_thr=0.0, filter_thr=0.0))
    )
    found = head.eval().predict(features(1), batch(1, (64, 96)))[0]

    assert found.masks is not None
    assert len(found) > 0
    assert found.masks.shape == (len(found), 64, 96)
    assert found.scores.diff().le(0).all()


def test_a_mask_of_solov2_is_its_cells_kernel_on_the_mask_features() -> None:
    head = built(SOLOV2HeadConfig(**SMALL))
    assert isinstance(head, SOLOV2Head)
    predictions = head(features(1))
    kernels, (mask_features,) = predictions.masks

    masks = head.cell_masks(predictions, 0, 1, tensor([2 * 6 + 4]))

    assert_close(masks[0], torch.einsum("e,ehw->hw", kernels[1][0, :, 2, 4], mask_features[0]))


def test_the_stride_of_the_mask_features_is_the_pyramids() -> None:
    with pytest.raises(ConfigError, match="mask_stride"):
        built(SOLOV2HeadConfig(**SMALL, mask_feature_head=SOLOV2MaskFeatModuleConfig(mask_stride=4)))


def test_a_grid_for_each_level_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="num_grids"):
        built(SOLOHeadConfig(num_grids=(8, 6)))


@pytest.mark.parametrize(
    ("mmdet_config", "head"),
    [
        ("decoupled-solo_r50_fpn_1x_coco", DecoupledSOLOHeadConfig()),
        ("decoupled-solo-light_r50_fpn_3x_coco", DecoupledSOLOLightHeadConfig()),
    ],
)
def test_the_decoupled_heads_have_mmdetections_parameters(mmdet_config: str, head: SOLOHeadConfig) -> None:
    zoo.check_state_dict(f"solo/{mmdet_config}.py", solo.Model(mask_head=head))


LIGHT = SOLOV2HeadConfig(
    stacked_convs=2, feat_channels=256, mask_feature_head=SOLOV2MaskFeatModuleConfig(out_channels=128)
)


@pytest.mark.parametrize(
    ("mmdet_config", "head", "backbone"),
    [
        ("solov2-light_r50_fpn_ms-3x_coco", LIGHT, {}),
        (
            "solov2-light_r50-dcn_fpn_ms-3x_coco",
            evolve(LIGHT, stacked_convs=3, dcn_cfg=DCNv2Config(), dcn_apply_to_all_conv=False),
            {"dcn": DCNv2Config(), "stage_with_dcn": (False, True, True, True)},
        ),
        (
            "solov2_r101-dcn_fpn_ms-3x_coco",
            SOLOV2HeadConfig(
                dcn_cfg=DCNv2Config(),
                mask_feature_head=SOLOV2MaskFeatModuleConfig(conv_cfg=DCNv2Config()),
            ),
            {"depth": 101, "dcn": DCNv2Config(), "stage_with_dcn": (False, True, True, True)},
        ),
    ],
)
def test_the_variants_of_solov2_have_mmdetections_parameters(
    mmdet_config: str, head: SOLOV2HeadConfig, backbone: dict[str, Any]
) -> None:
    model = solo.Model(mask_head=head, backbone=ResNetConfig(**backbone))
    zoo.check_state_dict(f"solov2/{mmdet_config}.py", model)
