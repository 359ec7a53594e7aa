"""Grid R-CNN: boxes found by a grid of points."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detcfg.config import ConfigError
from detcfg.heads.bbox.convfc_bbox_head import ConvFCBBoxHeadConfig, Shared2FCBBoxHeadConfig
from detcfg.heads.bbox.grid_head import GridHead, GridHeadConfig
from detcfg.heads.mask.fcn_mask_head import FCNMaskHeadConfig
from detcfg.heads.roi.grid_roi_head import AMPLITUDE, GridRoIHeadConfig, jittered
from detcfg.layers.norm import GNConfig
from detcfg.structures import Targets
from tests.support.roi import MASK_RCNN

HEAD = GridHeadConfig(
    num_convs=2, point_feat_channels=4, norm_cfg=GNConfig(num_groups=2), in_channels=3, roi_feat_size=14
)
ROI_HEAD = GridRoIHeadConfig(
    bbox_head=Shared2FCBBoxHeadConfig(fc_out_channels=16, with_reg=False),
    grid_head=GridHeadConfig(num_convs=2, point_feat_channels=4, norm_cfg=GNConfig(num_groups=2)),
)
TINY = evolve(MASK_RCNN, roi_head=ROI_HEAD)


def heatmap_targets(head: GridHead, box: list[float], gt: list[float], radius: int) -> Tensor:
    """Point by point and cell by cell, as MMDetection does it."""
    side, size = head.grid_size, head.map_size
    x1, y1 = box[0] - (box[2] - box[0]) / 2, box[1] - (box[3] - box[1]) / 2
    width, height = 2 * (box[2] - box[0]), 2 * (box[3] - box[1])
    whole = torch.zeros(side * side, size, size)
    for point in range(side * side) if min(width, height) > side else ():
        fx, fy = (point // side) / (side - 1), (point % side) / (side - 1)
        cx = int((gt[0] * (1 - fx) + gt[2] * fx - x1) / width * size)
        cy = int((gt[1] * (1 - fy) + gt[3] * fy - y1) / height * size)
        for x in range(max(cx - radius, 0), min(cx + radius + 1, size)):
            for y in range(max(cy - radius, 0), min(cy + radius + 1, size)):
                if (x - cx) ** 2 + (y - cy) ** 2 <= radius**2:
                    whole[point, y, x] = 1
    half = head.half_size
    starts = head.corners(torch.zeros(1)).long().tolist()
    return torch.stack([m[y : y + half, x : x + half] for m, (x, y) in zip(whole, starts, strict=True)])


@settings(max_examples=30, deadline=None)
@given(
    points=st.sampled_from([4, 9, 16]),
    radius=st.integers(0, 2),
    numbers=st.tuples(*[st.floats(1, 60)] * 8),
)
def test_targets_are_small_discs_about_the_points_of_the_object(
    points: int, radius: int, numbers: tuple[float, ...]
) -> None:
    head = evolve(HEAD, grid_points=points).build()
    x, y, w, h, gx, gy, gw, gh = (round(number * 8) / 8 for number in numbers)
    box, gt = [x, y, x + w, y + h], [gx, gy, gx + gw, gy + gh]
    got = head.targets(torch.tensor([box]), torch.tensor([gt]), radius)[0]
    assert got.shape == (points, 28, 28)
    assert (got != heatmap_targets(head, box, gt, radius)).float().mean() < 1e-3


def test_certain_heatmaps_decode_to_the_box_that_they_were_made_of() -> None:
    head = HEAD.build()
    boxes = torch.tensor([[20.0, 30, 60, 90], [10, 10, 80, 50]])
    objects = torch.tensor([[24.0, 26, 58, 96], [6, 14, 84, 48]])
    heatmaps = (head.targets(boxes, objects, 0) - 0.5) * 40
    decoded = head.decode(heatmaps, boxes)
    # A cell of the map is 1 / 28 of the box.
    assert ((decoded - objects).abs() <= (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2) / 28).all()


def test_a_side_is_where_its_points_vote_for_it() -> None:
    head = HEAD.build()
    heatmaps = torch.full((1, 9, 28, 28), -40.0)
    for point, (column, logit) in enumerate([(14, 0.0), (14, 0.0), (18, 40.0)]):
        heatmaps[0, point, 5, column] = logit
    (box,) = head.decode(heatmaps, torch.tensor([[0.0, 0, 28, 28]]))
    expected = (0.5 * (14.5 - 14) * 2 + 1.0 * (18.5 - 14)) / 2
    torch.testing.assert_close(box[0], torch.tensor(expected))


def test_points_hear_of_their_neighbours_and_their_neighbours_neighbours() -> None:
    head = evolve(HEAD, norm_cfg=None, num_convs=1).build().eval()
    assert head.neighbors[0] == (1, 3)
    assert head.neighbors[4] == (1, 3, 5, 7)
    x = torch.zeros(1, 36, 7, 7)
    x[:, 32:] = 1  # the last point alone has features
    for transitions in (head.forder_trans, head.sorder_trans):
        for layer in transitions.modules():
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.constant_(layer.weight, 0.1)
                torch.nn.init.zeros_(layer.bias)
    own = x.chunk(9, dim=1)
    second = head._fused(head.sorder_trans, own, head._fused(head.forder_trans, own, own))
    heard = [bool(part.any()) for part in second]
    assert [False, False, True, False, True, True, True, True, True] == heard


def test_positives_are_moved_within_bounds() -> None:
    torch.manual_seed(0)
    boxes = torch.tensor([[40.0, 40, 60, 80]]).repeat(500, 1)
    moved = jittered(boxes, (100, 100))
    centre = (moved[:, :2] + moved[:, 2:]) / 2 - torch.tensor([50.0, 60])
    size = (moved[:, 2:] - moved[:, :2]) / torch.tensor([20.0, 40])
    assert (centre.abs() <= AMPLITUDE * torch.tensor([20.0, 40]) + 1e-4).all()
    assert centre.abs().amax(0).gt(0.9 * AMPLITUDE * torch.tensor([20.0, 40])).all()
    assert size.min() >= 1 - AMPLITUDE - 1e-4
    assert size.max() <= 1 + AMPLITUDE + 1e-4
    assert jittered(boxes, (50, 55)).amax(0).tolist()[2:] == [54, 49]


def test_rois_that_are_not_refined_stay_as_they_are_within_the_image() -> None:
    config = ConvFCBBoxHeadConfig(in_channels=2, roi_feat_size=3, num_classes=2, with_reg=False)
    head = config.build()
    assert "fc_reg.weight" not in head.state_dict()
    _, pred = head(torch.randn(1, 2, 3, 3))
    rois = torch.tensor([[0.0, 3, 4, 50, 60]])
    assert head.decode(rois, pred, (40, 45)).tolist() == [[3, 4, 45, 40]]
    assert head.refined(rois, torch.tensor([1]), pred, (40, 45)).tolist() == [[3, 4, 45, 40]]
    with pytest.raises(ConfigError, match="with_reg is False, but num_reg_convs is 1"):
        evolve(config, num_reg_convs=1).build()


@pytest.mark.parametrize(
    "roi_head",
    [
        ROI_HEAD,
        evolve(ROI_HEAD, max_num_grid=1, mask_head=FCNMaskHeadConfig(num_convs=1, conv_out_channels=8)),
        evolve(ROI_HEAD, bbox_head=Shared2FCBBoxHeadConfig(fc_out_channels=16)),
    ],
)
@pytest.mark.parametrize("objects", [0, 2])
def test_every_weight_learns_and_boxes_come_out(roi_head: GridRoIHeadConfig, objects: int) -> None:
    torch.manual_seed(0)
    model = evolve(TINY, roi_head=roi_head).build()
    masks = torch.zeros(objects, 60, 64, dtype=torch.bool)
    masks[:, 20:40, 20:40] = True
    boxes = torch.tensor([[8.0, 8, 40, 40], [20, 20, 60, 50]])[:objects]
    target = Targets(boxes=boxes, labels=torch.tensor([1, 2])[:objects], masks=masks)
    image = torch.randint(0, 255, (3, 60, 64), dtype=torch.uint8)
    losses = model.train().loss([image], [target])
    torch.stack(list(losses.values())).sum().backward()
    assert "loss_grid" in losses
    assert ("loss_bbox" in losses) == ("roi_head.bbox_head.fc_reg.weight" in model.state_dict())
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    with torch.inference_mode():
        (found,) = model.eval().predict([image])
    assert bool(torch.isfinite(found.boxes).all())


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (evolve(HEAD, grid_points=8), "grid_points is 8"),
        (evolve(HEAD, roi_feat_size=7), "roi_feat_size is 7"),
        (evolve(HEAD, norm_cfg=GNConfig(num_groups=5)), "num_groups is 5, which does not divide the 36"),
    ],
)
def test_grids_that_cannot_be_are_refused(head: GridHeadConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        head.build()
