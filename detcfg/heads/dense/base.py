"""What the dense heads are to a detector, and what those share that predict level by level.

Shapes: B images; features are tuples of (B, C, H_i, W_i), finest first; A priors over all levels, n_i of
level i and a at each location; K classes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.samplers.base import SamplerConfig
from detcfg.config import ConfigError, ModuleConfig, derived
from detcfg.config.ranges import NonEmpty, PositiveInt
from detcfg.heads.dense.detections import DenseTestConfig, postprocess
from detcfg.heads.dense.levels import flatten_level
from detcfg.losses.base import ClassLossConfig
from detcfg.losses.focal import FocalLossConfig
from detcfg.precision import widened
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class DenseHeadConfig(ModuleConfig):
    """A config that builds a `DenseHead`."""

    num_classes: PositiveInt = derived()
    """Classes of the data, without background."""
    in_channels: PositiveInt | NonEmpty[PositiveInt] = derived()
    """Channels of every feature map, or of each. A head says which of the two it reads; most read one width."""
    in_strides: NonEmpty[PositiveInt] = derived()
    """Stride of each feature map."""

    @abstractmethod
    def build(self) -> DenseHead: ...


def check_dense_sampler(name: str, sampler: SamplerConfig) -> None:
    """Refuse a sampler that a dense head has no use for; `name` is the head's field.

    Raises:
        ConfigError: It adds ground-truth boxes to the priors, or mines hard examples by a RoI head's predictions.
    """
    if sampler.adds_objects:
        raise ConfigError(
            f"{name}.add_gt_as_proposals is True, but a dense head predicts at its own priors alone, so that "
            "ground-truth boxes cannot join them. Set it to False."
        )
    if sampler.needs_scorer:
        raise ConfigError(
            f"{name} is {type(sampler).__name__}, which mines hard examples by the predictions of a RoI head. "
            "Give a dense head a RandomSamplerConfig."
        )


class DenseHead(nn.Module):
    """Predicts at every location of every feature map, for one or more priors each.

    Its targets and its post-processing are its own. What `forward` predicts is float32 under autocast as well
    (`detcfg.precision.widened`): probabilities of bfloat16's 8 bits would tie.
    """

    def loss(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        """The losses by name, each a scalar summed over levels."""
        raise NotImplementedError

    def predict(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        """The detections of each image, in output pixels (`ImageBatch.output_sizes`)."""
        raise NotImplementedError


@frozen(kw_only=True)
class LevelHeadConfig(DenseHeadConfig):
    """A config that builds a `LevelHead`."""

    in_channels: PositiveInt = derived()
    """Channels of every feature map."""
    feat_channels: PositiveInt = 256
    """Channels of the hidden layers."""
    loss_cls: ClassLossConfig = FocalLossConfig()
    """Classification loss. Also decides between sigmoid and softmax."""
    test_cfg: DenseTestConfig = DenseTestConfig()
    """How predictions become detections."""

    @property
    def cls_out_channels(self) -> int:
        """C: logits of a prior, with one for background exactly if they go through softmax."""
        return self.loss_cls.cls_channels(self.num_classes)

    @abstractmethod
    def build(self) -> LevelHead: ...


class LevelHead(DenseHead):
    """A dense head that predicts class logits and boxes in the same way on every level.

    A subclass says where the priors are (`priors`), what is predicted on a level (`forward_single`), how that is
    read as boxes (`decode`) and what it is trained with (`losses`).
    """

    num_base_priors: int = 1
    """a: priors at each location."""

    def __init__(self, config: LevelHeadConfig) -> None:
        super().__init__()
        self.num_classes = config.num_classes
        self.in_channels = config.in_channels
        self.feat_channels = config.feat_channels
        self.cls_out_channels = config.cls_out_channels
        self.strides = config.in_strides
        self.loss_cls = config.loss_cls.build()
        self.test_cfg = config.test_cfg

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        """One level's predictions.

        Returns:
            Logits (B, a * C, H, W), box predictions (B, a * n, H, W) of n numbers each, and perhaps more. A third
            map (B, a, H, W) is by default the logit of a score factor, such as the centerness.
        """
        raise NotImplementedError

    def forward(self, features: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], ...]:
        """`forward_single` of each level, in float32: a tuple over levels for each kind of prediction."""
        levels = [widened(self.forward_single(x, level)) for level, x in enumerate(features)]
        return tuple(zip(*levels, strict=True))

    def priors(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """For each level its priors (n_i, ...), the same for every image; `maps` are any predictions."""
        raise NotImplementedError

    def decode(self, priors: Tensor, pred: Tensor, /, max_shape: tuple[int, int] | None = None) -> Tensor:
        """The boxes (n, 4) that are predicted for priors, kept within an image of (height, width)."""
        raise NotImplementedError

    def probabilities(self, cls_scores: Tensor) -> Tensor:
        """Logits (..., C) to the probabilities (..., K) of the classes."""
        return self.loss_cls.dense_probabilities(cls_scores)

    def loss(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        return self.losses(self(features), batch, targets)

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        """The losses of what `forward` predicts."""
        raise NotImplementedError

    def predict(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        return self.detections(self(features), batch)

    def detections(self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch) -> list[Detections]:
        """The detections in what `forward` predicts."""
        return [found for found, _ in self.postprocess(predictions, batch)]

    def postprocess(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch
    ) -> list[tuple[Detections, Tensor]]:
        """`detections`, and for each (D,) int64 which of the A priors of its image it comes from."""
        cls_scores, bbox_preds, score_factors = self.flat_predictions(predictions)
        return postprocess(
            cls_scores,
            bbox_preds,
            self.priors(predictions[0]),
            batch,
            test_cfg=self.test_cfg,
            probabilities=self.probabilities,
            decode=self.decode,
            score_factors=score_factors,
        )

    def flat_predictions(
        self, predictions: tuple[tuple[Tensor, ...], ...]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor] | None]:
        """What `forward` predicts, as the post-processing reads it.

        Returns:
            For each level logits (B, n_i, C), box predictions (B, n_i, ...) as `decode` takes them, and score
            factors (B, n_i) in [0, 1], or None where there are none.
        """
        cls_scores, bbox_preds, *others = predictions
        a = self.num_base_priors
        return (
            [flatten_level(maps, self.cls_out_channels) for maps in cls_scores],
            [flatten_level(maps, maps.shape[1] // a) for maps in bbox_preds],
            [flatten_level(maps, 1).squeeze(-1).sigmoid() for maps in others[0]] if others else None,
        )
