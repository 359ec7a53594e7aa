"""Conditional DETR: DETR whose queries look around points of their own (mmdet/models/detectors/conditional_detr.py)."""

from __future__ import annotations

from attrs import frozen

from detcfg.detectors.detr import DETR, DETRConfig
from detcfg.heads.query.conditional_detr_decoder import ConditionalDetrTransformerDecoderConfig
from detcfg.heads.query.conditional_detr_head import ConditionalDETRHeadConfig
from detcfg.heads.query.detr_decoder import QueryDecoderConfig
from detcfg.heads.query.detr_head import DETRHeadConfig


@frozen(kw_only=True)
class ConditionalDETRConfig(DETRConfig):
    """Conditional DETR (Meng et al., 2021, https://arxiv.org/abs/2108.06152)."""

    decoder: QueryDecoderConfig = ConditionalDetrTransformerDecoderConfig()
    """Queries and cells to queries."""
    bbox_head: DETRHeadConfig = ConditionalDETRHeadConfig()
    """Queries to objects."""

    def build(self) -> ConditionalDETR:
        return ConditionalDETR(self.resolved())


class ConditionalDETR(DETR):
    """As `DETR`, with a decoder and a head that know points."""
