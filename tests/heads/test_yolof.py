"""YOLOF's head and neck."""

from __future__ import annotations

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from detcfg.config import ConfigError
from detcfg.experiments import retinanet, yolof
from detcfg.heads.anchor_based.yolof_head import YOLOFHeadConfig, with_objectness
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.necks.dilated_encoder import DilatedEncoderConfig
from detcfg.structures import Targets
from tests.support.dense import batch, built, features, objects

ONE, NONE = objects((20.0, 30.0, 100.0, 90.0)), objects()


def test_a_score_is_the_product_of_class_and_objectness() -> None:
    classes, objectness = torch.randn(3, 4, 5), torch.randn(3, 1, 5)

    logits = with_objectness(classes, objectness)

    assert_close(logits.sigmoid(), classes.sigmoid() * objectness.sigmoid())


def test_large_logits_stay_finite() -> None:
    assert with_objectness(tensor(200.0), tensor(300.0)).isfinite()


@pytest.mark.parametrize("second", [ONE, NONE, objects((20.0, 30.0, 100.0, 90.0), ignored=True)])
@pytest.mark.parametrize("first", [ONE, NONE])
def test_losses_and_gradients_are_finite_whatever_the_images_hold(first: Targets, second: Targets) -> None:
    head = built(YOLOFHeadConfig(), strides=(32,))
    losses = head.loss(features(strides=(32,)), batch(), [first, second])

    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())


def test_the_encoder_reads_the_last_level_and_each_block_has_its_dilation() -> None:
    config = DilatedEncoderConfig(
        in_channels=(8, 16), in_strides=(16, 32), out_channels=4, block_dilations=(1, 3, 5, 7, 9)
    )
    neck = config.build().eval()

    (out,) = neck((torch.zeros(1, 8, 8, 8), torch.randn(1, 16, 4, 4)))

    assert out.shape == (1, 4, 4, 4)
    assert config.feature_strides == (32,)
    assert [block.conv2.conv.dilation for block in neck.dilated_encoder_blocks] == [
        (1, 1),
        (3, 3),
        (5, 5),
        (7, 7),
    ]


def test_contradictions_are_refused_before_any_weight() -> None:
    with pytest.raises(ConfigError, match="YOLOF reads one level"):
        retinanet.Model(num_classes=3, bbox_head=YOLOFHeadConfig()).resolved()
    with pytest.raises(ConfigError, match="block_dilations"):
        yolof.Model(num_classes=3, neck=DilatedEncoderConfig(num_residual_blocks=5)).resolved()
    with pytest.raises(ConfigError, match="use_sigmoid"):
        yolof.Model(num_classes=3, bbox_head=YOLOFHeadConfig(loss_cls=CrossEntropyLossConfig())).resolved()
