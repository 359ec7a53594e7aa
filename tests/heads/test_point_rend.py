"""PointRend: points of feature maps and masks, and masks made fine."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from attrs import evolve

from detcfg.config import ConfigError
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.heads.mask.coarse_mask_head import CoarseMaskHeadConfig
from detcfg.heads.mask.fcn_mask_head import FCNMaskHeadConfig
from detcfg.heads.mask.mask_point_head import MaskPointHeadConfig
from detcfg.heads.roi.point_rend_roi_head import PointRendRoIHead, PointRendRoIHeadConfig, PointRendTestConfig
from detcfg.layers.normed_conv import NormedConv2dConfig
from detcfg.layers.points import point_sample, sample_rois, uncertain_points
from detcfg.masks import at_points
from detcfg.roi_extractors.generic import GenericRoIExtractorConfig
from detcfg.roi_extractors.simple_roi_align import SimpleRoIAlignConfig
from detcfg.structures import Targets
from tests.support.roi import MASK_RCNN

ROI_HEAD = PointRendRoIHeadConfig(
    bbox_head=Shared2FCBBoxHeadConfig(fc_out_channels=16),
    mask_head=CoarseMaskHeadConfig(conv_out_channels=8, fc_out_channels=16),
    point_head=MaskPointHeadConfig(num_fcs=2, fc_channels=8),
    test_cfg=PointRendTestConfig(subdivision_steps=3, subdivision_num_points=100),
)
TINY = evolve(MASK_RCNN, roi_head=ROI_HEAD)


def built(config: PointRendRoIHeadConfig) -> PointRendRoIHead:
    head = evolve(TINY, roi_head=config).resolved().roi_head.build()
    assert isinstance(head, PointRendRoIHead)
    return head


def test_points_of_masks_are_those_of_padded_masks_in_a_larger_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(3, 10, 14, generator=generator) > 0.5
    points = torch.rand(5, 40, 2, generator=generator) * torch.tensor([18.0, 14]) - 1
    indices = torch.tensor([2, 0, 1, 0, 2])
    padded = F.pad(masks, (0, 6, 0, 4))[indices, None].float()
    expected = point_sample(padded, points / torch.tensor([20.0, 14]))[:, 0]
    torch.testing.assert_close(at_points(masks, points, indices), expected)


@pytest.mark.parametrize("stride", [4, 8])
def test_points_of_rois_read_the_place_they_stand_for(stride: int) -> None:
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(12.0), indexing="ij")
    planes = torch.stack((x, y)).expand(2, 2, 8, 12).clone()
    planes[1] += 100
    rois = torch.tensor([[1.0, 8, 8, 40, 24], [0, 16, 4, 32, 20]])
    points = torch.tensor([[[0.5, 0.5], [0.25, 0.75]]]).expand(2, 2, 2)
    sampled = sample_rois(planes, rois, points, stride)
    # The value at a cell's centre is its index, half a cell below its place.
    expected = (rois[:, None, 1:3] + points * (rois[:, None, 3:5] - rois[:, None, 1:3])) / stride - 0.5
    expected[0] += 100
    torch.testing.assert_close(sampled, expected.transpose(1, 2))


def test_simple_alignment_samples_the_centre_of_each_cell() -> None:
    planes = torch.arange(16.0).expand(1, 1, 16, 16).clone()
    pooled = SimpleRoIAlignConfig(output_size=2).build_for(4, 1)(planes, torch.tensor([[0.0, 8, 8, 40, 40]]))
    torch.testing.assert_close(pooled[0, 0], torch.tensor([[3.5, 7.5], [3.5, 7.5]]))


def test_most_points_are_drawn_where_the_mask_is_uncertain() -> None:
    torch.manual_seed(0)
    logits = torch.linspace(-10, 10, 8).expand(3, 8, 8)
    points = uncertain_points(logits, 100, 3.0, 0.75)
    assert points.shape == (3, 100, 2)
    assert points.min() >= 0
    assert points.max() <= 1
    near = (points[:, :75, 0] - 0.5).abs()
    anywhere = (points[:, 75:, 0] - 0.5).abs()
    assert near.max() < 0.3
    assert anywhere.max() > 0.4


def test_a_step_is_left_out_where_the_next_tells_all_points() -> None:
    cfg = PointRendTestConfig(subdivision_steps=5, subdivision_num_points=28 * 28)
    assert [0, 784, 784, 784, 784] == [cfg.num_points(step, 7 * 2 ** (step + 1)) for step in range(5)]
    assert PointRendTestConfig(subdivision_steps=1).num_points(0, 14) == 14 * 14


def test_masks_are_enlarged_and_certain_cells_keep_what_the_coarse_mask_says() -> None:
    torch.manual_seed(0)
    head = built(
        evolve(ROI_HEAD, test_cfg=PointRendTestConfig(subdivision_steps=1, subdivision_num_points=5))
    )
    features = tuple(torch.randn(1, 16, 64 // s, 64 // s) for s in (4, 8, 16, 32, 64))
    rois, labels = torch.tensor([[0.0, 4, 4, 40, 40], [0, 8, 8, 20, 30]]), torch.tensor([2, 0])
    torch.nn.init.normal_(head.get_submodule("mask_head.fc_logits").weight)
    with torch.inference_mode():
        coarse = head.fcn_mask_head.masks_of_labels(
            head.fcn_mask_head(head.pool_masks(features, rois)), labels
        )
        plain = F.interpolate(coarse[:, None], scale_factor=2.0, mode="bilinear")[:, 0]
        fine = head.fine_masks(features, rois, labels)
    changed = fine != plain
    assert [5, 5] == changed.sum((1, 2)).tolist()
    for row in range(2):
        assert plain[row][changed[row]].abs().max() <= plain[row][~changed[row]].abs().min()


@pytest.mark.parametrize(
    "roi_head",
    [
        ROI_HEAD,
        evolve(ROI_HEAD, point_head=MaskPointHeadConfig(class_agnostic=True, coarse_pred_each_layer=False)),
        evolve(ROI_HEAD, importance_sample_ratio=1.0, mask_head=CoarseMaskHeadConfig(downsample_factor=1)),
        evolve(
            ROI_HEAD,
            mask_roi_extractor=GenericRoIExtractorConfig(
                aggregation="concat", roi_layer=SimpleRoIAlignConfig(output_size=14), featmap_strides=(4, 8)
            ),
        ),
    ],
)
@pytest.mark.parametrize("objects", [0, 2])
def test_every_weight_learns_and_masks_come_out(roi_head: PointRendRoIHeadConfig, objects: int) -> None:
    torch.manual_seed(0)
    model = evolve(TINY, roi_head=roi_head).build()
    boxes = torch.tensor([[8.0, 8, 40, 40], [20, 20, 60, 50]])[:objects]
    masks = torch.zeros(objects, 60, 64, dtype=torch.bool)
    masks[:, 20:40, 20:40] = True
    target = Targets(boxes=boxes, labels=torch.tensor([1, 2])[:objects], masks=masks)
    image = torch.randint(0, 255, (3, 60, 64), dtype=torch.uint8)
    losses = model.train().loss([image], [target])
    torch.stack(list(losses.values())).sum().backward()
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    with torch.inference_mode():
        (found,) = model.eval().predict([image])
    assert found.masks is not None
    assert found.masks.shape == (len(found), 60, 64)


def test_no_detections_have_no_masks() -> None:
    head = built(ROI_HEAD)
    features = tuple(torch.randn(1, 16, 64 // s, 64 // s) for s in (4, 8, 16, 32, 64))
    fine = head.fine_masks(features, torch.zeros(0, 5), torch.zeros(0, dtype=torch.long))
    assert fine.shape == (0, 56, 56)


def test_a_coarse_head_makes_masks_smaller_and_takes_no_upsampling() -> None:
    config = CoarseMaskHeadConfig(in_channels=4, roi_feat_size=14, num_classes=3).resolved()
    assert config.mask_size == 7
    assert config.build()(torch.randn(2, 4, 14, 14)).shape == (2, 3, 7, 7)
    with pytest.raises(TypeError, match="upsample_cfg"):
        CoarseMaskHeadConfig(upsample_cfg=FCNMaskHeadConfig().upsample_cfg)
    with pytest.raises(ConfigError, match=r"predictor_cfg is NormedConv2dConfig.*Leave it out"):
        evolve(config, predictor_cfg=NormedConv2dConfig()).build()


def test_channels_that_do_not_fit_are_named() -> None:
    with pytest.raises(ConfigError, match=r"point_head\.in_channels is 256"):
        evolve(TINY, roi_head=evolve(ROI_HEAD, point_head=MaskPointHeadConfig(in_channels=256))).build()
