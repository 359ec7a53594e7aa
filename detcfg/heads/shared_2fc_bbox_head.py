"""The bbox head of Faster R-CNN: two linear layers that both predictions share."""

from __future__ import annotations

from attrs import frozen

from detcfg.heads.convfc_bbox_head import ConvFCBBoxHeadConfig


@frozen(kw_only=True)
class Shared2FCBBoxHeadConfig(ConvFCBBoxHeadConfig):
    """Two shared linear layers (Lin et al., 2016, https://arxiv.org/abs/1612.03144)."""

    num_shared_fcs: int = 2
    """Linear layers that classes and boxes share."""
