"""The contract of backbones: a batch of images to a tuple of feature maps, finest first."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Self

from attrs import frozen
from torch import nn

from detcfg.config import ModuleConfig
from detcfg.layers.norm import eval_batch_norms, freeze

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

    @property
    def gives_image(self) -> bool:
        """Whether the images come before the feature maps, which the two above do not count."""
        return False

    @abstractmethod
    def build(self) -> Backbone: ...


class Backbone(nn.Module):
    """Maps (B, 3, H, W) to a tuple of (B, C_i, H / S_i, W / S_i)."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def rename_pretrained(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Another project's tensors under this backbone's parameter names, before they are loaded.

        By default the names are the same. A backbone overrides it where a published file has other names, order or
        shapes; tensors that it does not know keep their names.
        """
        return dict(tensors)


class StagedBackbone(Backbone):
    """A backbone that may freeze its first stages and keep its batch norms in evaluation mode."""

    norm_eval: bool = False
    """Batch norms use their running statistics in training too."""

    def frozen_modules(self) -> Iterable[nn.Module]:
        """The frozen modules: in evaluation mode, none of their parameters trained."""
        return ()

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002  # the signature is nn.Module's
        super().train(mode)
        for module in self.frozen_modules():
            freeze(module)
        if mode and self.norm_eval:
            eval_batch_norms(self)
        return self
