"""What every detector is, and the preprocessor inside it.

A detector takes images as they are (uint8 RGB, of any sizes), and gives losses or
detections in the pixels of those images.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.config import ConfigError, ModuleConfig, derived, is_unset
from detcfg.config.ranges import PositiveFloat, PositiveInt
from detcfg.detectors.batch_augments import BatchAugmentConfig
from detcfg.detectors.inputs import check_images, checked_targets
from detcfg.structures import ImageBatch, ceil_to

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from detcfg.structures import Detections, Targets

MAX_SHAPES: Final = 64
"""Shapes of batches for which the model is compiled."""


@frozen(kw_only=True)
class DetDataPreprocessorConfig(ModuleConfig):
    """Normalise and pad a batch on the model's device (mmdet/models/data_preprocessors)."""

    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    """Subtracted from each channel, in the order of `channel_order`, in units of 0 to 255."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (58.395, 57.12, 57.375)
    """Divisor of each channel, in the order of `channel_order`, in units of 0 to 255."""
    channel_order: Literal["rgb", "bgr"] = "rgb"
    """The channel order of the network's input. Images come as RGB; caffe-style weights need "bgr"."""
    pad_size_divisor: PositiveInt = 32
    """Height and width are padded to a multiple of this."""
    pad_value: float = 0.0
    """Value of the padding, after normalisation."""
    batch_augments: tuple[BatchAugmentConfig, ...] = ()
    """Augmentations of whole batches in training, in this order."""

    def build(self) -> DetDataPreprocessor:
        return DetDataPreprocessor(self.resolved())


class DetDataPreprocessor(nn.Module):
    """Uint8 RGB images of any sizes to one normalised, padded `ImageBatch`."""

    mean: Tensor
    """(3, 1, 1)."""
    std: Tensor
    """(3, 1, 1)."""

    def __init__(self, config: DetDataPreprocessorConfig) -> None:
        super().__init__()
        self.channel_order = config.channel_order
        self.divisor = config.pad_size_divisor
        self.pad_value = config.pad_value
        self.memory_format = torch.contiguous_format
        self.batch_size_divisor = 1
        self.batch_augments = nn.ModuleList(augment.build() for augment in config.batch_augments)
        # Not in the state dict: MMDetection's checkpoints do not hold them either.
        self.register_buffer("mean", torch.tensor(config.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(3, 1, 1), persistent=False)

    def forward(
        self, images: Sequence[Tensor], output_sizes: Sequence[tuple[int, int]] | None = None
    ) -> ImageBatch:
        check_images(images)
        if output_sizes is None:
            output_sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        images = [self.resized(image) for image in images]
        sizes = tuple((image.shape[-2], image.shape[-1]) for image in images)
        padded = tuple(map(self.padded, images))
        height, width = (
            ceil_to(max(lengths), self.batch_size_divisor) for lengths in zip(*padded, strict=True)
        )
        tensor = self.mean.new_empty((len(images), 3, height, width))
        for slot, image in zip(tensor, images, strict=True):
            slot[:, image.shape[-2] :].fill_(self.pad_value)
            slot[:, : image.shape[-2], image.shape[-1] :].fill_(self.pad_value)
            pixels = image.to(self.mean.device, non_blocking=True)
            pixels = pixels.flip(0) if self.channel_order == "bgr" else pixels
            # The same two operations in the same order as MMDetection, for equal rounding. In place, as
            # half of the time goes into new memory otherwise.
            inside = slot[:, : image.shape[-2], : image.shape[-1]]
            inside.copy_(pixels).sub_(self.mean).div_(self.std)
        return ImageBatch(
            tensor=tensor.contiguous(memory_format=self.memory_format),
            sizes=sizes,
            padded_sizes=padded,
            output_sizes=tuple(output_sizes),
        )

    def padded(self, image: Tensor) -> tuple[int, int]:
        """(height, width) of an image (3, H, W) padded on its own."""
        return ceil_to(image.shape[-2], self.divisor), ceil_to(image.shape[-1], self.divisor)

    def resized(self, image: Tensor) -> Tensor:
        """An image (3, H, W) of the size in which the network sees it; a subclass may resize it."""
        return image

    def augmented(
        self, batch: ImageBatch, targets: Sequence[Targets]
    ) -> tuple[ImageBatch, Sequence[Targets]]:
        """The batch and its objects as training sees them."""
        if self.training:
            for augment in self.batch_augments:
                batch, targets = augment(batch, targets)
        return batch, targets


def _may_overrun(module: nn.Module) -> bool:
    """Whether a convolution may write beyond its memory if channels lie side by side.

    oneDNN 3.12, in torch 2.14, does so on processors with AVX2 and no AVX-512 where 1x1 convolutions with a stride
    read 3, 4 or 6 channels: less than the 8 that it moves at once. Any rest of 8 is avoided; no published model has one.
    """
    return (
        isinstance(module, nn.Conv2d)
        and module.in_channels % 8 != 0
        and set(module.kernel_size) == {1}
        and set(module.stride) != {1}
    )


IMAGE_CHANNELS: Final = 3
"""Red, green and blue, in whichever order."""


@frozen(kw_only=True)
class DetectorConfig(ModuleConfig):
    """A config that builds a `Detector`."""

    num_classes: PositiveInt = derived()
    """Classes of the data, without background."""
    data_preprocessor: DetDataPreprocessorConfig = DetDataPreprocessorConfig()
    """Normalises and pads the images on the device."""

    def wired(self) -> Self:
        if not is_unset(self.num_classes) and self.num_classes < 1:
            raise ConfigError(
                f"num_classes is {self.num_classes}, and a detector needs at least one class. "
                "Name the classes in the dataset's `classes`."
            )
        channels = getattr(getattr(self, "backbone", None), "in_channels", IMAGE_CHANNELS)
        if channels != IMAGE_CHANNELS:
            raise ConfigError(
                f"backbone.in_channels is {channels}, and the images that a detector takes have {IMAGE_CHANNELS}."
            )
        return self

    @abstractmethod
    def build(self) -> Detector: ...


class Detector(nn.Module):
    """The base of every detector: subclasses say `extract_features`, `losses_of` and `detections_of`.

    Shapes: B images; (3, H, W) of any sizes.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.num_classes = None if is_unset(config.num_classes) else config.num_classes
        self.data_preprocessor = config.data_preprocessor.build()

    def channels_last(self) -> Self:
        """Lay weights and images out so that the channels of a pixel lie side by side.

        It changes no value beyond rounding, and convolutions are quicker so. For a model that is built; see `detcfg
        benchmark`. Models with narrow strided 1x1 convolutions stay as they are.
        """
        if any(_may_overrun(module) for module in self.modules()):
            return self
        self.data_preprocessor.memory_format = torch.channels_last
        for parameter in self.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return self

    def compile_features(self, size_divisor: int, backend: str | Callable[..., Any] = "inductor") -> Self:
        """Compile the backbone and the neck (`torch.compile`), for few shapes.

        Each shape of a batch is compiled by itself, which takes a minute or so. That their number stays small, the
        tensor of a batch is padded to a multiple of `size_divisor`, as a larger image beside them would do; where
        an image ends, and so every anchor and target, stays what it was.

        Args:
            size_divisor: Height and width of a batch are padded to a multiple of it, in pixels.
            backend: Of `torch.compile`.
        """
        from torch._dynamo import config as dynamo  # takes seconds

        self.data_preprocessor.batch_size_divisor = size_divisor
        # torch gives up after 8 shapes, and goes on without.
        dynamo.recompile_limit = max(dynamo.recompile_limit, MAX_SHAPES)
        for name, part in self.named_children():
            if name in {"backbone", "neck"}:
                part.compile(dynamic=False, backend=backend)  # pyright: ignore[reportUnknownMemberType]  # torch leaves it untyped
        return self

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Targets] | None = None
    ) -> dict[str, Tensor] | list[Detections]:
        """Losses in training mode, detections in evaluation mode."""
        if not self.training:
            return self.predict(images)
        if targets is None:
            raise ValueError("A detector in training mode needs targets: model(images, targets).")
        return self.loss(images, targets)

    def loss(self, images: Sequence[Tensor], targets: Sequence[Targets]) -> dict[str, Tensor]:
        """The losses by name, each a scalar. Their sum is what training minimises.

        It works in evaluation mode too, for the validation loss.

        Args:
            images: B uint8 RGB tensors (3, H, W).
            targets: The ground truth of each image. Boxes that reach beyond it are clipped.

        Raises:
            DetcfgError: An image is no uint8 RGB, or an object has no area in its image or a label of no class.
        """
        batch = self.data_preprocessor(images)
        targets = checked_targets(images, targets, self.num_classes)
        on_device = [target.to(batch.tensor.device) for target in targets]
        batch, targets = self.data_preprocessor.augmented(batch, on_device)
        return self.losses_of(self.extract_features(batch.tensor), batch, targets)

    def predict(
        self, images: Sequence[Tensor], output_sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[Detections]:
        """The detections of each image.

        Args:
            images: B uint8 RGB tensors (3, H, W).
            output_sizes: (height, width) for each image, in whose pixels boxes and masks come
                back; for images that were resized. By default the sizes of `images`.
        """
        batch = self.data_preprocessor(images, output_sizes)
        return self.detections_of(self.extract_features(batch.tensor), batch)

    def extract_features(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) to the feature maps that the heads read, finest first."""
        raise NotImplementedError

    def losses_of(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        """The losses of a batch whose features are known."""
        raise NotImplementedError

    def detections_of(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        """The detections of a batch whose features are known, in output pixels."""
        raise NotImplementedError
