"""The ResNeXt of DetectoRS (mmdet/models/backbones/detectors_resnext.py)."""

from __future__ import annotations

from attrs import evolve, frozen

from detcfg.backbones.detectors_resnet import DetectoRSResNetConfig
from detcfg.backbones.residual import BlockPlan
from detcfg.backbones.resnext import grouped_width
from detcfg.config.ranges import PositiveInt


@frozen(kw_only=True)
class DetectoRSResNeXtConfig(DetectoRSResNetConfig):
    """MMDetection's `DetectoRS_ResNeXt` (Qiao et al., 2020, https://arxiv.org/abs/2006.02334).

    The switchable convolutions have groups, too.
    """

    groups: PositiveInt = 1
    """Groups of channels that do not mix."""
    base_width: PositiveInt = 4
    """Channels of one group in the first stage."""

    def block_plans(self, stage: int) -> list[BlockPlan]:
        width = grouped_width(self.stage_widths[stage], self.groups, self.base_width, self.base_channels)
        return [evolve(plan, mid_channels=width, groups=self.groups) for plan in super().block_plans(stage)]
