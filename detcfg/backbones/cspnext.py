"""CSPNeXt, the backbone of RTMDet (mmdet/models/backbones/cspnext.py).

Shapes: images (B, 3, H, W) to (B, C_i, H / S_i, W / S_i) of each index in `out_indices`.
"""

from __future__ import annotations

from typing import ClassVar, Final

from attrs import frozen
from torch import nn

from detcfg.backbones.csp_darknet import Architectures, CSPStages, CSPStagesConfig
from detcfg.config.ranges import NonEmpty, OddInt, PositiveFloat
from detcfg.layers.csp_layer import CSPLayer, SPPBottleneck, init_yolo

ARCHITECTURES: Final[Architectures] = {
    "P5": (
        (64, 128, 3, True, False),
        (128, 256, 6, True, False),
        (256, 512, 6, True, False),
        (512, 1024, 3, False, True),
    ),
    "P6": (
        (64, 128, 3, True, False),
        (128, 256, 6, True, False),
        (256, 512, 6, True, False),
        (512, 768, 3, True, False),
        (768, 1024, 3, False, True),
    ),
}


@frozen(kw_only=True)
class CSPNeXtConfig(CSPStagesConfig):
    """CSP-Darknet with large kernels and channel attention (Lyu et al., 2022, https://arxiv.org/abs/2212.07784)."""

    architectures: ClassVar[Architectures] = ARCHITECTURES
    """The stages by `arch`."""

    expand_ratio: PositiveFloat = 0.5
    """The hidden channels of a stage's halves, as a fraction of the output channels."""
    spp_kernel_sizes: NonEmpty[OddInt] = (5, 9, 13)
    """Kernel sizes of spatial pyramid pooling."""
    channel_attention: bool = True
    """Whether each stage has channel attention."""

    def build(self) -> CSPNeXt:
        return CSPNeXt(self.resolved())


class CSPNeXt(CSPStages):
    """Its stem is three convolutions."""

    def __init__(self, config: CSPNeXtConfig) -> None:
        super().__init__(config)
        make, width = config.make, config.stages[0][0]
        half = width // 2
        self.stem = nn.Sequential(
            make.conv(3, half, 3, stride=2), make.conv(half, half, 3), make.conv(half, width, 3)
        )
        for i, (before, out, blocks, add_identity, use_spp) in enumerate(config.stages):
            stage = nn.Sequential(make.around(before, out, 3, stride=2))
            if use_spp:
                stage.append(SPPBottleneck(out, out, make, config.spp_kernel_sizes))
            layer = CSPLayer(
                out,
                out,
                make,
                expand_ratio=config.expand_ratio,
                num_blocks=blocks,
                add_identity=add_identity,
                use_cspnext_block=True,
                channel_attention=config.channel_attention,
            )
            self.add_module(f"stage{i + 1}", stage.append(layer))
        init_yolo(self)
        self.train(self.training)
