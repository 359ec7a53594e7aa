"""YOLOX's head, neck and backbone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import tensor
from torch.testing import assert_close

from detcfg.backbones.csp_darknet import CSPDarknetConfig
from detcfg.config import ConfigError
from detcfg.detectors.batch_augments import BatchSyncRandomResizeConfig
from detcfg.experiments import yolox
from detcfg.heads.anchor_free.yolox_head import YOLOXHead, YOLOXHeadConfig, decode, encode
from detcfg.layers.epochs import set_epoch
from detcfg.necks.yolox_pafpn import YOLOXPAFPNConfig
from detcfg.structures import Targets
from tests.support import zoo
from tests.support.dense import SIZE, batch, built, features, objects

STRIDES = (8, 16, 32)
ONE, NONE = objects((20.0, 30.0, 100.0, 90.0)), objects()
sides = st.floats(1, 500)


def head(**changes: Any) -> YOLOXHead:
    made = built(YOLOXHeadConfig(**changes), strides=STRIDES)
    assert isinstance(made, YOLOXHead)
    return made


@given(st.floats(-50, 50), st.floats(-50, 50), sides, sides, st.sampled_from(STRIDES))
def test_boxes_come_back_from_their_codes(
    x: float, y: float, width: float, height: float, stride: int
) -> None:
    priors = tensor([[3.0 * stride, 2.0 * stride, stride, stride]])
    boxes = tensor([[x, y, x + width, y + height]])

    assert_close(decode(priors, encode(priors, boxes)), boxes, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("config", [{}, {"use_depthwise": True}, {"dcn_on_last_conv": True}], ids=str)
@pytest.mark.parametrize("second", [ONE, NONE], ids=["one", "none"])
@pytest.mark.parametrize("first", [ONE, NONE], ids=["one", "none"])
def test_losses_and_gradients_are_finite_whatever_the_images_hold(
    first: Targets, second: Targets, config: dict[str, bool]
) -> None:
    module = head(**config)
    losses = module.loss(features(strides=STRIDES), batch(), [first, second])

    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_the_codes_have_a_loss_of_their_own_in_the_last_epochs() -> None:
    module = head(l1_from_epoch=5)
    found: list[bool] = []
    for epoch in (0, 4, 5, 6):
        set_epoch(module, epoch)
        found.append("loss_l1" in module.loss(features(strides=STRIDES), batch(), [ONE, NONE]))

    assert found == [False, False, True, True]


@torch.no_grad()
def test_a_place_has_one_detection_whose_score_counts_objectness() -> None:
    module = head().eval()
    cls_scores, _, objectnesses = module(features(1, strides=STRIDES))
    best = max(
        float((classes.sigmoid().amax(1) * there[:, 0].sigmoid()).max())
        for classes, there in zip(cls_scores, objectnesses, strict=True)
    )
    module.test_cfg = module.test_cfg.__class__(score_thr=0.0)

    height, width = SIZE
    plain = module.predict(features(1, strides=STRIDES), batch(1))[0]
    doubled = module.predict(features(1, strides=STRIDES), batch(1, (2 * height, 2 * width)))[0]

    assert float(plain.scores[0]) == pytest.approx(best)
    assert_close(doubled.boxes, 2 * plain.boxes)


@pytest.mark.parametrize(
    ("mmdet_config", "depth", "width", "blocks", "depthwise"),
    [
        ("yolox_nano", 0.33, 0.25, 1, True),
        ("yolox_s", 0.33, 0.5, 1, False),
        ("yolox_x", 1.33, 1.25, 4, False),
    ],
)
def test_the_sizes_have_mmdetections_parameters(
    mmdet_config: str, depth: float, width: float, blocks: int, *, depthwise: bool
) -> None:
    model = yolox.Model(
        backbone=CSPDarknetConfig(deepen_factor=depth, widen_factor=width, use_depthwise=depthwise),
        neck=YOLOXPAFPNConfig(out_channels=int(256 * width), num_csp_blocks=blocks, use_depthwise=depthwise),
        bbox_head=YOLOXHeadConfig(feat_channels=int(256 * width), use_depthwise=depthwise),
    )
    zoo.check_state_dict(f"yolox/{mmdet_config}_8xb8-300e_coco.py", model)


def test_the_backbone_says_what_it_gives_and_freezes_its_first_stages() -> None:
    config = CSPDarknetConfig(
        arch="P6", widen_factor=0.125, deepen_factor=0.2, out_indices=(0, 1, 5), frozen_stages=1
    )
    backbone = config.build().train()

    maps = backbone(torch.randn(1, 3, 128, 128))

    assert tuple(x.shape[1] for x in maps) == config.feature_channels == (8, 16, 128)
    assert tuple(128 // x.shape[2] for x in maps) == config.feature_strides == (2, 4, 64)
    trained = {name.partition(".")[0] for name, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {"stage2", "stage3", "stage4", "stage5"}
    with pytest.raises(ConfigError, match="out_indices"):
        CSPDarknetConfig(out_indices=(5,)).resolved()


def test_batches_change_their_size_together_with_their_objects() -> None:
    config = BatchSyncRandomResizeConfig(random_size_range=(64, 256), interval=2)
    first, second = config.build(), config.build()
    sizes: list[list[tuple[int, ...]]] = [[], []]
    for epoch in (0, 1, 2):
        set_epoch(second, epoch)  # goes on after the first epoch, which `first` has seen
        set_epoch(first, epoch)
        for module, seen in zip((first, second), sizes, strict=True):
            if module is second and epoch == 0:
                continue
            for _ in range(4):
                resized, (found,) = module(batch(1), [ONE])
                seen.append(tuple(resized.tensor.shape[2:]))
                scale = tensor([resized.tensor.shape[3] / SIZE[1], resized.tensor.shape[2] / SIZE[0]]).repeat(
                    2
                )
                assert_close(found.boxes, ONE.boxes * scale)

    assert sizes[0][:2] == [SIZE, SIZE]
    assert sizes[0][4:] == sizes[1]
    assert len(set(sizes[0])) > 2
    assert all(height % 32 == 0 and width % 32 == 0 for height, width in sizes[0])
