"""The mask head of Mask R-CNN, and Mask R-CNN with it."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve
from torch import nn

from detcfg.config import ConfigError
from detcfg.errors import DetcfgError
from detcfg.heads.mask import fcn_mask_head
from detcfg.heads.mask.fcn_mask_head import FCNMaskHeadConfig
from detcfg.layers.upsample import (
    BilinearUpsampleConfig,
    DeconvUpsampleConfig,
    NearestUpsampleConfig,
    UpsampleConfig,
)
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.structures import Targets
from tests.support.roi import MASK_RCNN as TINY
from tests.support.roi import MASK_ROI_HEAD as ROI_HEAD
from tests.support.roi import sampled

HEAD = FCNMaskHeadConfig(num_convs=1, in_channels=4, conv_out_channels=6, roi_feat_size=7, num_classes=3)


def test_the_loss_is_the_mean_binary_cross_entropy_of_the_own_class_and_no_other() -> None:
    torch.manual_seed(0)
    head = HEAD.build()
    masks = torch.zeros(2, 20, 20, dtype=torch.bool)
    masks[0, :10], masks[1, :, :5] = True, True
    sampling = sampled(masks, torch.tensor([[0.0, 0, 20, 20], [0, 0, 10, 20]]), torch.tensor([2, 0]))
    features = torch.randn(2, 4, 7, 7)
    logits = head(features)
    logits.retain_grad()
    target = torch.zeros(2, 14, 14)
    target[0, :7], target[1, :, :7] = 1, 1
    p = torch.stack([logits[0, 2], logits[1, 0]]).sigmoid()
    expected = -(target * p.log() + (1 - target) * (1 - p).log()).mean()

    torch.testing.assert_close(head.loss(features, [sampling], (20, 20))["loss_mask"], expected)


@pytest.mark.parametrize(
    ("upsample", "side", "channels"),
    [
        (DeconvUpsampleConfig(), 14, 6),
        (DeconvUpsampleConfig(scale_factor=4), 28, 6),
        (NearestUpsampleConfig(), 14, 5),
        (BilinearUpsampleConfig(scale_factor=3), 21, 5),
        (None, 7, 5),
    ],
    ids=str,
)
def test_masks_are_as_large_as_the_upsampling_makes_them(
    upsample: UpsampleConfig | None, side: int, channels: int
) -> None:
    config = evolve(HEAD, num_convs=0, in_channels=5, upsample_cfg=upsample).resolved()
    head = config.build()
    assert isinstance(head.conv_logits, nn.Conv2d)
    assert config.mask_size == side
    assert head(torch.randn(2, 5, 7, 7)).shape == (2, 3, side, side)
    assert head.conv_logits.in_channels == channels


def test_a_class_agnostic_head_has_one_mask_whatever_the_class() -> None:
    head = evolve(HEAD, class_agnostic=True).build()
    features = torch.randn(2, 4, 7, 7)
    assert head(features).shape == (2, 1, 14, 14)
    of_one_class, of_another = (head.probabilities(features, torch.tensor(k)) for k in ([0, 0], [2, 1]))
    assert of_one_class.equal(of_another)


def test_soft_targets_say_how_much_of_a_cell_is_covered() -> None:
    masks = torch.zeros(1, 14, 14, dtype=torch.bool)
    masks[0, :, :7:2] = True
    sampling = sampled(masks, torch.tensor([[0.0, 0, 14, 14]]), torch.tensor([0]))
    config = evolve(HEAD, upsample_cfg=None)
    soft = evolve(config, soft_mask_target=True).build().targets([sampling], (14, 14))
    hard = config.build().targets([sampling], (14, 14))
    assert soft[0, 0].tolist() == [0.5, 0.5, 0.5, 0.5, 0, 0, 0]
    assert hard[0, 0].tolist() == [1, 1, 1, 1, 0, 0, 0]


def test_the_number_of_masks_drawn_at_a_time_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    head = HEAD.build()
    features, labels = torch.randn(5, 4, 7, 7), torch.tensor([0, 1, 2, 0, 1])
    at_once = head.probabilities(features, labels)
    monkeypatch.setattr(fcn_mask_head, "PIECE", 2)
    torch.testing.assert_close(head.probabilities(features, labels), at_once)


def test_a_mask_size_that_the_features_do_not_give_is_named() -> None:
    roi_head = evolve(ROI_HEAD, mask_head=FCNMaskHeadConfig(mask_size=14))
    with pytest.raises(ConfigError, match=r"mask_size is 14, but .*roi_feat_size makes it 28"):
        evolve(TINY, roi_head=roi_head).build()


def test_a_loss_cannot_be_of_classes_and_of_masks() -> None:
    with pytest.raises(ConfigError, match="use_sigmoid and use_mask"):
        CrossEntropyLossConfig(use_sigmoid=True, use_mask=True).build()


def test_targets_without_masks_are_refused_with_what_to_do() -> None:
    boxes = torch.tensor([[4.0, 4.0, 40.0, 40.0]])
    targets = Targets(boxes=boxes, labels=torch.tensor([1]))
    with pytest.raises(DetcfgError, match="with_mask"):
        TINY.build().train().loss([torch.zeros(3, 64, 64, dtype=torch.uint8)], [targets])


def test_an_image_without_objects_gives_finite_losses_and_a_gradient_for_every_weight() -> None:
    torch.manual_seed(0)
    model = TINY.build().train()
    nothing = Targets(
        boxes=torch.zeros(0, 4),
        labels=torch.zeros(0, dtype=torch.long),
        masks=torch.zeros(0, 64, 64, dtype=torch.bool),
    )
    losses = model.loss([torch.zeros(3, 64, 64, dtype=torch.uint8)], [nothing])
    torch.stack(list(losses.values())).sum().backward()

    assert losses["loss_mask"].item() == 0
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_masks_come_in_the_pixels_that_are_asked_for() -> None:
    torch.manual_seed(0)
    model = TINY.build().eval()
    image = torch.randint(0, 255, (3, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        (found,) = model.predict([image], output_sizes=[(128, 288)])
    assert len(found) > 0
    assert found.masks is not None
    assert found.masks.shape == (len(found), 128, 288)
    assert found.masks.dtype == torch.bool
