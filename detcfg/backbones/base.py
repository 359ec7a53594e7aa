"""What every backbone is: an image batch in, a tuple of feature maps out, finest first."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from attrs import frozen
from torch import nn

from detcfg.config import ModuleConfig

if TYPE_CHECKING:
    from torch import Tensor


@frozen(kw_only=True)
class BackboneConfig(ModuleConfig):
    """A config that builds a `Backbone`; it knows its channels and strides before any weight exists."""

    pretrained: str | None = None
    """Weights to start training from: a torchvision name such as "ResNet50_Weights.IMAGENET1K_V1",
    the path of a .pth or .safetensors file, or None for random ones. `build` never reads them:
    `load_pretrained` in detcfg/backbones/pretrained.py does."""

    @property
    @abstractmethod
    def feature_channels(self) -> tuple[int, ...]:
        """Channels of each feature map."""

    @property
    @abstractmethod
    def feature_strides(self) -> tuple[int, ...]:
        """Pixels of the input to one cell of each feature map."""

    @abstractmethod
    def build(self) -> Backbone: ...


class Backbone(nn.Module):
    """Maps (B, 3, H, W) to a tuple of (B, C_i, H / S_i, W / S_i)."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError
