"""RT-DETR and its descendants: a backbone, a hybrid encoder, and a decoder of queries.

Shapes: images (B, 3, H, W); features are tuples of (B, C_i, H_i, W_i), finest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from attrs import evolve, frozen
from torch import Tensor

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.presnet import PResNetConfig
from detcfg.config import fill
from detcfg.detectors.base import DetDataPreprocessorConfig, Detector, DetectorConfig
from detcfg.detectors.declared_maps import DeclaredMaps
from detcfg.heads.query.rtdetr_transformer import RTDETRTransformerV2Config
from detcfg.heads.query.two_stage import TwoStageQueryHeadConfig
from detcfg.necks.hybrid_encoder import HybridEncoderConfig
from detcfg.necks.rtdetr_hybrid_encoder import RTDETRHybridEncoderConfig
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class RTDETRConfig(DetectorConfig):
    """RT-DETR (Zhao et al., 2023, https://arxiv.org/abs/2304.08069), version 2 (https://arxiv.org/abs/2407.17140).

    Pixels are divided by 255, without mean and std. Images keep their aspect ratio; each is padded to a multiple of 32.
    """

    data_preprocessor: DetDataPreprocessorConfig = DetDataPreprocessorConfig(
        mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0), pad_size_divisor=32
    )
    """Normalises and pads the images on the device."""
    backbone: BackboneConfig = PResNetConfig()
    """Image to feature maps."""
    encoder: HybridEncoderConfig = RTDETRHybridEncoderConfig()
    """Feature maps to feature maps of one width."""
    decoder: TwoStageQueryHeadConfig = RTDETRTransformerV2Config()
    """Feature maps to detections."""

    def wired(self) -> Self:
        wired = super().wired()
        channels, strides = wired.backbone.feature_channels, wired.backbone.feature_strides
        encoder = fill(wired.encoder, "backbone.feature_channels", in_channels=channels)
        encoder = fill(encoder, "backbone.feature_strides", in_strides=strides)
        decoder = fill(wired.decoder, "encoder.feature_channels", in_channels=encoder.feature_channels)
        decoder = fill(decoder, "encoder.feature_strides", in_strides=encoder.feature_strides)
        decoder = fill(decoder, "num_classes", num_classes=wired.num_classes)
        return evolve(wired, encoder=encoder, decoder=decoder)

    def build(self) -> RTDETR:
        return RTDETR(self.resolved())


class RTDETR(Detector):
    """`decoder(encoder(backbone(images)))`.

    In evaluation images of one size run together, so that an image's detections do not depend on what stands beside it. In
    training a batch is padded to its largest image; padding is hidden from attention and from the choice of queries.
    """

    def __init__(self, config: RTDETRConfig) -> None:
        super().__init__(config)
        self.declared_maps = DeclaredMaps(backbone=config.backbone)
        self.backbone = config.backbone.build()
        self.encoder = config.encoder.build()
        self.decoder = config.decoder.build()

    def extract_features(self, images: Tensor) -> tuple[Tensor, ...]:
        features: tuple[Tensor, ...] = self.backbone(images)
        self.declared_maps.check("backbone", features, images)
        return features

    def losses_of(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        return self.decoder.loss(self.encoder(features, batch.padding(features)), batch, targets)

    def detections_of(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        return self.decoder.predict(self.encoder(features, batch.padding(features)), batch)

    def predict(
        self, images: Sequence[Tensor], output_sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[Detections]:
        alike: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(images):
            alike.setdefault(self.data_preprocessor.padded(image), []).append(index)
        found: dict[int, Detections] = {}
        for indices in alike.values():
            sizes = None if output_sizes is None else [output_sizes[i] for i in indices]
            detections = super().predict([images[i] for i in indices], sizes)
            found |= dict(zip(indices, detections, strict=True))
        return [found[i] for i in range(len(images))]
