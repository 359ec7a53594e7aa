"""What all bbox heads share: targets and losses."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve, frozen
from torch import Tensor

from detcfg.boxes.assigners.base import NEGATIVE, Assignment
from detcfg.boxes.coders.base import BBoxCoderConfig
from detcfg.boxes.samplers.pseudo import PseudoSamplerConfig
from detcfg.config import ConfigError
from detcfg.heads.bbox.convfc_bbox_head import ConvFCBBoxHeadConfig
from detcfg.roi_extractors.base import bbox2roi
from detcfg.structures import Targets

CONFIG = ConvFCBBoxHeadConfig(in_channels=2, roi_feat_size=1, num_classes=2)
TARGETS = Targets(boxes=torch.tensor([[0.0, 0, 20, 20], [0, 0, 10, 10]]), labels=torch.tensor([1, 0]))
PRIORS = torch.tensor([[2.0, 0, 22, 20], [1, 0, 11, 10], [40, 40, 50, 50], [50, 50, 60, 60]])


@pytest.mark.parametrize("reg_decoded_bbox", [False, True])
def test_a_positive_counts_the_same_however_many_are_sampled_with_it(*, reg_decoded_bbox: bool) -> None:
    """`loss_bbox` is a sum over positives, divided by the number of all sampled rois."""
    head = evolve(CONFIG, reg_decoded_bbox=reg_decoded_bbox).build()
    losses: list[float] = []
    for gt_indices in ([0, NEGATIVE], [NEGATIVE, 1], [0, 1], [NEGATIVE, NEGATIVE]):
        assignment = Assignment(
            gt_indices=torch.tensor([*gt_indices, NEGATIVE, NEGATIVE]), max_overlaps=torch.zeros(4)
        )
        sampling = PseudoSamplerConfig().sample(assignment, PRIORS, TARGETS)
        rois = bbox2roi([sampling.priors])
        found = head.loss(torch.zeros(4, 3), torch.zeros(4, 8), rois, head.targets([sampling]))
        losses.append(float(found["loss_bbox"]))
    first, second, both, none = losses
    # A shift by a tenth of the width is a delta of 0.1 over target_stds of 0.1; in pixels it is 2 or 1, of x1 and x2.
    assert [first, second] == pytest.approx([2 * 2 / 4, 1 * 2 / 4] if reg_decoded_bbox else [1 / 4, 1 / 4])
    assert both == pytest.approx(first + second)
    assert none == 0


@frozen(kw_only=True)
class CornerCoderConfig(BBoxCoderConfig):
    """A coder as its base's docstring asks for it: a row of deltas a prior."""

    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        return boxes - priors

    def decode(self, priors: Tensor, pred: Tensor, max_shape: tuple[int, int] | None = None) -> Tensor:
        del max_shape
        return torch.cat([priors[:, :2] + pred[:, :2], priors[:, 2:] + pred[:, 2:]], dim=1)


@pytest.mark.parametrize("count", [0, 3])
def test_a_coder_decodes_the_box_of_each_class_by_the_deltas_of_that_class(count: int) -> None:
    head = evolve(CONFIG, bbox_coder=CornerCoderConfig()).build()
    rois, deltas = bbox2roi([PRIORS[:count]]), torch.arange(8.0).expand(count, 8)

    boxes = head.decode(rois, deltas, (100, 100))

    assert boxes.shape == (count, 8)
    assert boxes.equal(PRIORS[:count].repeat(1, 2) + deltas)


@pytest.mark.parametrize("branch", ["num_cls_convs", "num_reg_convs"])
def test_convolutions_of_a_branch_cannot_follow_shared_linear_layers(branch: str) -> None:
    head = ConvFCBBoxHeadConfig(
        num_classes=3, in_channels=8, roi_feat_size=7, num_shared_fcs=1, **{branch: 1}
    )

    with pytest.raises(
        ConfigError, match=f"num_shared_fcs is 1, so the branches begin with vectors, but .*{branch[4:]}"
    ):
        head.resolved()
