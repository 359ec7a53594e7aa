"""The mask head of Hybrid Task Cascade, which may read the features of the stage before.

Shapes: P rois; S the side of pooled features.
"""

from __future__ import annotations

from attrs import frozen
from torch import Tensor

from detcfg.heads.mask.fcn_mask_head import FCNMaskHead, FCNMaskHeadConfig
from detcfg.layers.conv_module import ConvModule


@frozen(kw_only=True)
class HTCMaskHeadConfig(FCNMaskHeadConfig):
    """The mask head of a stage of HTC (Chen et al., 2019, https://arxiv.org/abs/1901.07518).

    Follows mmdet/models/roi_heads/mask_heads/htc_mask_head.py.
    """

    with_conv_res: bool = True
    """Whether it adds the features of the stage before, through a 1x1 convolution; the first stage has none."""

    def build(self) -> HTCMaskHead:
        return HTCMaskHead(self.resolved())


class HTCMaskHead(FCNMaskHead):
    """An `FCNMaskHead` whose `convolved` takes the features of the stage before, too."""

    def __init__(self, config: HTCMaskHeadConfig) -> None:
        super().__init__(config)
        self.conv_res = None
        if config.with_conv_res:
            self.conv_res = ConvModule(
                config.conv_out_channels,
                config.conv_out_channels,
                1,
                conv_cfg=config.conv_cfg,
                norm_cfg=config.norm_cfg,
            )

    def convolved(self, features: Tensor, before: Tensor | None = None) -> Tensor:
        """(P, C, S, S) to (P, C', S, S), with the `convolved` features (P, C', S, S) of the stage before."""
        if before is not None:
            assert self.conv_res is not None
            features = features + self.conv_res(before)
        return super().convolved(features)
