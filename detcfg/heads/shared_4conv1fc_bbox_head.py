"""The bbox head of group-normed detectors: four convolutions and one linear layer."""

from __future__ import annotations

from attrs import frozen

from detcfg.heads.convfc_bbox_head import ConvFCBBoxHeadConfig


@frozen(kw_only=True)
class Shared4Conv1FCBBoxHeadConfig(ConvFCBBoxHeadConfig):
    """Four shared convolutions and one linear layer (Wu and He, 2018, https://arxiv.org/abs/1803.08494)."""

    num_shared_convs: int = 4
    """Convolutions that classes and boxes share."""
    num_shared_fcs: int = 1
    """Linear layers that classes and boxes share."""
