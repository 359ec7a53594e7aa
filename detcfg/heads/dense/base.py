"""What the dense heads and the RoI heads are to a detector.

Shapes: B images; features are tuples of (B, C, H_i, W_i), finest first.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.samplers.base import SamplerConfig
from detcfg.config import ConfigError, ModuleConfig, derived
from detcfg.precision import widened
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class DenseHeadConfig(ModuleConfig):
    """A config that builds a `DenseHead`: one prediction for each place of each feature map."""

    num_classes: int = derived()
    """Classes of the data, without background."""
    in_channels: int | tuple[int, ...] = derived()
    """Channels of every feature map, or of each. A head says which of the two it reads; most read one width."""
    in_strides: tuple[int, ...] = derived()
    """Stride of each feature map."""

    @abstractmethod
    def build(self) -> DenseHead: ...


def check_dense_sampler(name: str, sampler: SamplerConfig) -> None:
    """Refuse a sampler that a dense head has no use for; `name` is the head's field.

    Raises:
        ConfigError: It adds objects to the priors.
    """
    if sampler.adds_objects:
        raise ConfigError(
            f"{name}.add_gt_as_proposals is True, but a dense head predicts at its own priors alone, so that "
            "objects cannot join them. Set it to False."
        )
    if sampler.needs_scorer:
        raise ConfigError(
            f"{name} is {type(sampler).__name__}, which mines hard examples by the predictions of a RoI head. "
            "Give a dense head a RandomSamplerConfig."
        )


class DenseHead(nn.Module):
    """Predicts from feature maps; its own targets and post-processing included.

    What `forward` predicts is float32 under autocast as well: probabilities of 8 bits would tie.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_forward_hook(_widened_output)

    def loss(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        """The losses by name, each a scalar summed over levels."""
        raise NotImplementedError

    def predict(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        """The detections of each image, in output pixels (`ImageBatch.output_sizes`)."""
        raise NotImplementedError


def _widened_output(head: nn.Module, features: object, predictions: object) -> object:
    del head, features
    return widened(predictions)
