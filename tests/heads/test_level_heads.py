"""What heads share that predict level by level."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from detcfg.heads.anchor_based.retina_head import RetinaHeadConfig
from detcfg.heads.anchor_free.fcos_head import FCOSHeadConfig
from detcfg.heads.anchor_free.rtmdet_head import RTMDetHeadConfig
from detcfg.heads.anchor_free.vfnet_head import VFNetHeadConfig
from detcfg.heads.anchor_free.yolox_head import YOLOXHeadConfig
from detcfg.heads.dense.base import LevelHead, LevelHeadConfig
from detcfg.heads.dense.levels import level_of_each, of_positives, per_level
from detcfg.layers.deform_conv import ModulatedDeformConv2dPack
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from tests.support.dense import SIZE, STRIDES, batch, built, features, objects

LEVELS = (torch.zeros(4, 2), torch.zeros(2, 2))


def level_head(config: LevelHeadConfig) -> LevelHead:
    head = built(config)
    assert isinstance(head, LevelHead)
    return head


def test_probabilities_are_sigmoids_or_a_softmax_without_background() -> None:
    sigmoid = level_head(RetinaHeadConfig())
    softmax = level_head(RetinaHeadConfig(loss_cls=CrossEntropyLossConfig()))
    logits = torch.randn(5, 3)

    assert (sigmoid.cls_out_channels, softmax.cls_out_channels) == (3, 4)
    assert_close(sigmoid.probabilities(logits), 1 / (1 + (-logits).exp()))
    background = torch.cat([logits, torch.zeros(5, 1)], dim=1)  # e^0 = 1
    assert_close(softmax.probabilities(background), logits.exp() / (logits.exp().sum(1, keepdim=True) + 1))


def test_vfnet_goes_by_the_loss_that_it_is_trained_with() -> None:
    config = VFNetHeadConfig(use_vfl=False, loss_cls_fl=CrossEntropyLossConfig())
    head = level_head(config).eval()
    losses = head.loss(features(1), batch(1), [objects((20.0, 30.0, 100.0, 90.0))])

    assert head.cls_out_channels == 4
    assert all(loss.isfinite() for loss in losses.values())
    assert set(head.predict(features(1), batch(1))[0].labels.tolist()) <= {0, 1, 2}


def test_values_of_priors_are_those_of_the_positives_image_by_image() -> None:
    positive = tensor([[True, False, False, False, True, False], [False, False, True, False, False, False]])

    assert per_level((8, 16), LEVELS).tolist() == [8, 8, 8, 8, 16, 16]
    assert level_of_each(LEVELS).tolist() == [0, 0, 0, 0, 1, 1]
    assert of_positives(per_level((8, 16), LEVELS), positive).tolist() == [8, 16, 8]
    assert of_positives(torch.arange(12).view(6, 2), positive).tolist() == [[0, 1], [8, 9], [4, 5]]


@torch.no_grad()
def test_each_detection_comes_with_the_prior_that_it_was_predicted_for() -> None:
    head = level_head(FCOSHeadConfig()).eval()
    predictions = head(features(1))

    ((found, inds),) = head.postprocess(predictions, batch(1))

    _, distances, _ = head.flat_predictions(predictions)
    points, sides = torch.cat(head.priors(predictions[0])), torch.cat(distances, dim=1)[0]
    assert len(found) == len(inds) > 0
    assert_close(found.boxes, head.decode(points[inds], sides[inds], max_shape=SIZE))


@torch.no_grad()
def test_predictions_are_float32_under_autocast() -> None:
    head = level_head(FCOSHeadConfig())

    with torch.autocast("cpu", torch.bfloat16):
        predictions: tuple[tuple[Tensor, ...], ...] = head(features(1))

    assert {level.dtype for maps in predictions for level in maps} == {torch.float32}


@pytest.mark.parametrize(
    "config",
    [FCOSHeadConfig, RTMDetHeadConfig, YOLOXHeadConfig],
)
def test_the_last_layer_of_a_tower_may_be_deformable(
    config: type[FCOSHeadConfig | RTMDetHeadConfig | YOLOXHeadConfig],
) -> None:
    head = config(in_channels=32, in_strides=STRIDES, feat_channels=32, dcn_on_last_conv=True)
    layers = [type(layer.get_submodule("conv")) for layer in head.tower().children()]

    assert layers == [torch.nn.Conv2d] * (len(layers) - 1) + [ModulatedDeformConv2dPack]
