"""RoI heads of every kind take any assigner that goes by boxes."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve, frozen

from detcfg.boxes.assigners.atss import ATSSAssignerConfig
from detcfg.boxes.assigners.base import AssignerConfig, Assignment
from detcfg.boxes.assigners.sim_ota import SimOTAAssignerConfig
from detcfg.config import ConfigError
from detcfg.detectors.faster_rcnn import FasterRCNNConfig
from detcfg.heads.roi.grid_roi_head import GridRoIHeadConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.structures import Targets
from tests.support.roi import CASCADE, CASCADE_ROI_HEAD, MASK_RCNN

STANDARD = evolve(MASK_RCNN.roi_head, mask_head=None, mask_roi_extractor=None)


@frozen(kw_only=True)
class EveryPriorConfig(AssignerConfig):
    """An assigner of a user's own: all priors are positive, for the first object."""

    def assign_anchors(
        self, priors: torch.Tensor, targets: Targets, num_level_priors: tuple[int, ...]
    ) -> Assignment:
        assert len(targets)
        assert num_level_priors == (len(priors),)
        first = torch.zeros(len(priors), dtype=torch.long)
        return Assignment(gt_indices=first, max_overlaps=torch.ones(len(priors)))


def model(kind: str, assigner: AssignerConfig) -> FasterRCNNConfig:
    if kind == "cascade":
        return evolve(CASCADE, roi_head=evolve(CASCADE_ROI_HEAD, assigner=assigner))
    assert isinstance(STANDARD, StandardRoIHeadConfig)
    if kind == "standard":
        return evolve(MASK_RCNN, roi_head=evolve(STANDARD, assigner=assigner))
    head = evolve(STANDARD.bbox_head, with_reg=False)
    return evolve(MASK_RCNN, roi_head=GridRoIHeadConfig(bbox_head=head, assigner=assigner))


@pytest.mark.parametrize("kind", ["standard", "cascade", "grid"])
@pytest.mark.parametrize(
    "assigner", [EveryPriorConfig(), ATSSAssignerConfig()], ids=lambda a: type(a).__name__
)
def test_any_assigner_by_boxes_trains_a_roi_head(kind: str, assigner: AssignerConfig) -> None:
    torch.manual_seed(0)
    detector = model(kind, assigner).build().train()
    targets = [Targets(boxes=torch.tensor([[8.0, 8, 40, 40]]), labels=torch.tensor([1]))]

    losses = detector.loss([torch.zeros(3, 64, 64, dtype=torch.uint8)], targets)

    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("assigner", [SimOTAAssignerConfig(), ATSSAssignerConfig(alpha=0.8)])
@pytest.mark.parametrize(
    ("kind", "name"), [("standard", "assigner"), ("cascade", "assigner.0"), ("grid", "assigner")]
)
def test_an_assigner_that_goes_by_predictions_is_refused(
    kind: str, name: str, assigner: AssignerConfig
) -> None:
    with pytest.raises(
        ConfigError, match=f"^roi_head: {name} is {type(assigner).__name__}, which goes by more"
    ):
        model(kind, assigner).resolved()
