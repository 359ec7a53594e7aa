"""DETR: a backbone, a transformer, and a set of queries each of which predicts one object or none.

Shapes: images (B, 3, H, W), feature maps (B, C, h, w), N = h * w cells; Q queries, L decoder layers.

Follows mmdet/models/detectors/detr.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.config import ConfigError, fill
from detcfg.config.ranges import PositiveInt
from detcfg.detectors.backbone_neck import BackboneNeckConfig, BackboneNeckDetector
from detcfg.heads.query.detr_decoder import Cells, Decoded, DetrTransformerDecoderConfig, QueryDecoderConfig
from detcfg.heads.query.detr_encoder import DetrTransformerEncoderConfig
from detcfg.heads.query.detr_head import DETRHeadConfig
from detcfg.layers.positional_encoding import SinePositionalEncodingConfig
from detcfg.layers.tokens import tokens
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class DETRConfig(BackboneNeckConfig):
    """DETR (Carion et al., 2020, https://arxiv.org/abs/2005.12872). It reads the last map of its neck."""

    num_queries: PositiveInt = 100
    """Q: at most so many objects an image."""
    positional_encoding: SinePositionalEncodingConfig = SinePositionalEncodingConfig(normalize=True)
    """Where a cell is in its image."""
    encoder: DetrTransformerEncoderConfig = DetrTransformerEncoderConfig()
    """Cells to cells."""
    decoder: QueryDecoderConfig = DetrTransformerDecoderConfig()
    """Queries and cells to queries."""
    bbox_head: DETRHeadConfig = DETRHeadConfig()
    """Queries to objects."""

    def wired(self) -> Self:
        wired = super().wired()
        source, features = ("backbone", wired.backbone) if wired.neck is None else ("neck", wired.neck)
        dims = features.feature_channels[-1]
        if dims % 4:
            raise ConfigError(
                f"{source}.feature_channels ends in {dims}, and positions need a multiple of 4 channels. "
                "Give the neck other out_channels."
            )
        source = f"{source}.feature_channels"
        head = fill(wired.bbox_head, source, embed_dims=dims)
        return evolve(
            wired,
            positional_encoding=fill(wired.positional_encoding, source, num_feats=dims // 2),
            encoder=fill(wired.encoder, source, embed_dims=dims),
            decoder=fill(wired.decoder, source, embed_dims=dims),
            bbox_head=fill(head, "num_classes", num_classes=wired.num_classes),
        )

    def build(self) -> DETR:
        return DETR(self.resolved())


class DETR(BackboneNeckDetector):
    """`bbox_head(decoder(query_embedding, encoder(neck(backbone(images)))))`."""

    def __init__(self, config: DETRConfig) -> None:
        super().__init__(config)
        self.positional_encoding = config.positional_encoding.build()
        self.encoder = config.encoder.build()
        self.decoder = config.decoder.build()
        self.query_embedding = nn.Embedding(config.num_queries, config.encoder.embed_dims)
        self.bbox_head = config.bbox_head.build()

    def decoded(self, features: tuple[Tensor, ...], batch: ImageBatch) -> Decoded:
        """The queries after each decoder layer."""
        x = features[-1]
        padding = padded_cells(batch, x)
        positions = self.positional_encoding(padding)
        positions = positions.to(torch.promote_types(positions.dtype, x.dtype))
        # Attention is quicker without a mask.
        filled = all(size == batch.tensor.shape[-2:] for size in batch.sizes)
        hidden = None if filled else padding.flatten(1)
        cells = Cells(self.encoder(tokens(x), positions, hidden), positions, hidden)
        queries = self.query_embedding.weight.expand(len(batch), -1, -1)
        decoded: Decoded = self.decoder(queries, cells)
        return decoded

    def losses_of(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        return self.bbox_head.loss(self.decoded(features, batch), batch, targets)

    def detections_of(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        return self.bbox_head.predict(self.decoded(features, batch), batch)


def padded_cells(batch: ImageBatch, x: Tensor) -> Tensor:
    """(B, h, w) bool: the cells of a map (B, C, h, w) whose first pixel lies beyond the image."""
    outside = list[Tensor]()
    for axis, (length, pixels) in enumerate(zip(x.shape[-2:], batch.tensor.shape[-2:], strict=True)):
        first = torch.arange(length) * pixels // length
        outside.append(first >= torch.tensor([size[axis] for size in batch.sizes])[:, None])
    return (outside[0][:, :, None] | outside[1][:, None]).to(x.device, non_blocking=True)
