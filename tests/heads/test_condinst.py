"""CondInst's heads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from attrs import evolve
from torch import Tensor, tensor
from torch.testing import assert_close

from detcfg.config import ConfigError
from detcfg.experiments import condinst
from detcfg.heads.instance.condinst_bbox_head import CondInstBboxHead, CondInstBboxHeadConfig, Instances
from detcfg.heads.instance.condinst_mask_feat import CondInstMaskFeatModuleConfig
from detcfg.heads.instance.condinst_mask_head import CondInstMaskHead, CondInstMaskHeadConfig
from detcfg.layers.aligned_bilinear import aligned_bilinear
from tests.support.dense import SIZE, STRIDES, batch, built, features, objects


def mask_head(**changes: Any) -> CondInstMaskHead:
    torch.manual_seed(0)
    return CondInstMaskHeadConfig(in_channels=32, in_strides=STRIDES, **changes).build()


def bbox_head(score_thr: float = 0.0) -> CondInstBboxHead:
    head = built(CondInstBboxHeadConfig(num_params=169, stacked_convs=1))
    assert isinstance(head, CondInstBboxHead)
    head.test_cfg = evolve(head.test_cfg, score_thr=score_thr, nms_pre=20)
    return head


def instances(count: int, objects: Tensor | None = None, params: int = 169) -> Instances:
    return Instances(
        points=torch.rand(count, 2) * 100,
        strides=torch.full((count,), 8.0),
        params=torch.randn(count, params),
        scores=torch.rand(count),
        gt_inds=torch.zeros(count, dtype=torch.int64) if objects is None else objects,
    )


def test_the_network_of_an_instance_is_its_parameters_layer_by_layer() -> None:
    head = mask_head(num_layers=2, feat_channels=3)
    x, params = torch.randn(2, 10, 5), torch.randn(2, 10 * 3 + 3 + 3 + 1)

    masks = head.network(x, params)

    for instance in range(2):
        first, last, bias, last_bias = params[instance].split([30, 3, 3, 1])
        hidden = F.relu(first.reshape(3, 10) @ x[instance] + bias[:, None])
        assert_close(masks[instance], last.reshape(1, 3) @ hidden + last_bias)


def test_coordinates_are_zero_where_the_instance_was_predicted() -> None:
    config = CondInstMaskHeadConfig(num_layers=1, in_channels=32, in_strides=STRIDES)
    head = config.build()
    params = torch.zeros(1, config.num_params)
    params[0, 0] = 1.0  # the mask is the x coordinate
    found = Instances(
        points=tensor([[36.0, 20.0]]),
        strides=tensor([16.0]),
        params=params,
        scores=torch.ones(1),
        gt_inds=tensor([0]),
    )
    head.enlargement = 1

    mask = head(torch.randn(8, 16, 24), found)

    assert_close(mask[0, :, 4], torch.zeros(16))  # 36 = 8 * 4.5
    assert_close(mask[0, :, 3], torch.full((16,), 8 / (16 * 8)))


def test_alignment_keeps_every_pixel_where_it_was() -> None:
    x = torch.randn(1, 2, 5, 7)

    assert_close(aligned_bilinear(x, 4)[..., 2::4, 2::4], x)


def test_the_best_instances_of_each_object_learn() -> None:
    head = mask_head(topk_masks_per_img=5)
    found = instances(9, objects=tensor([0, 2, 0, 2, 0, 7, 2, 0, 0]))

    chosen = found[head._sampled(found)]

    assert chosen.gt_inds.sort().values.tolist() == [0, 2, 7]
    for each in (0, 2, 7):
        assert chosen.scores[chosen.gt_inds == each] == found.scores[found.gt_inds == each].max()


def test_no_more_instances_learn_than_asked_for() -> None:
    found = instances(9)

    chosen = mask_head(max_masks_to_train=4)._sampled(found)

    assert len(chosen.unique()) == len(chosen) == 4


def test_losses_are_finite_with_and_without_objects() -> None:
    boxes, masks = bbox_head(), mask_head()
    one, none = objects((20.0, 30.0, 100.0, 90.0)), objects()

    for targets in ([one, none], [none, none]):
        losses, found = boxes.loss_and_instances(features(), targets)
        losses |= masks.loss(features(), found, targets)
        assert all(loss.isfinite() for loss in losses.values())
        torch.stack(list(losses.values())).sum().backward()
    assert boxes.controller.weight.grad is not None


@pytest.mark.parametrize("score_thr", [0.0, 1.0])
@torch.no_grad()
def test_masks_come_in_the_size_of_the_output(score_thr: float) -> None:
    images = batch(1, (2 * SIZE[0], SIZE[1]))
    boxes, found = bbox_head(score_thr).eval().predict_with_instances(features(1), images)[0]

    masks = mask_head().eval().predict(features(1), [found], images)[0]

    assert (len(boxes) == 0) == (score_thr == 1.0)
    assert masks.shape == (len(boxes), 2 * SIZE[0], SIZE[1])


def test_the_box_head_predicts_what_the_mask_head_needs() -> None:
    model = condinst.Model(num_classes=3, mask_head=CondInstMaskHeadConfig(feat_channels=4)).resolved()

    assert model.bbox_head.num_params == (10 * 4 + 4) + (4 * 4 + 4) + (4 + 1)
    with pytest.raises(
        ConfigError, match=r"bbox_head.num_params is 170, but mask_head.num_params makes it 169"
    ):
        evolve(condinst.Model(num_classes=3), bbox_head=CondInstBboxHeadConfig(num_params=170)).resolved()


def test_the_stride_of_masks_divides_that_of_the_features() -> None:
    with pytest.raises(ConfigError, match="mask_out_stride"):
        mask_head(mask_out_stride=3)
    with pytest.raises(ConfigError, match="end_level"):
        mask_head(mask_feature_head=CondInstMaskFeatModuleConfig(end_level=5))
