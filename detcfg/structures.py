"""What goes into a detector and what comes out, as frozen classes of tensors.

Shapes: N objects of one image; H, W its size in pixels. Boxes are (x1, y1, x2, y2) in absolute
pixels throughout detcfg.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import evolve, field, frozen

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@frozen(eq=False)
class Targets:
    """The ground truth of one image: its annotated objects."""

    boxes: Tensor
    """(N, 4) float, xyxy in pixels of the image."""
    labels: Tensor
    """(N,) int64, 0-based class indices."""
    masks: Tensor | None = None
    """(N, H, W) bool, or None where the data has no masks."""
    ignored: Tensor | None = None
    """(N,) bool: crowd or difficult objects: matching priors are neither positive nor negative. None: no object is
    ignored."""
    semantic: Tensor | None = None
    """(H, W) uint8: the class of each pixel, stuff included, 255 where it is unlabelled; for semantic branches.
    None: the data has none."""

    def __len__(self) -> int:
        return len(self.boxes)

    def to(self, device: torch.device | str) -> Targets:
        """The same objects on another device."""
        return Targets(
            boxes=self.boxes.to(device),
            labels=self.labels.to(device),
            masks=None if self.masks is None else self.masks.to(device),
            ignored=None if self.ignored is None else self.ignored.to(device),
            semantic=None if self.semantic is None else self.semantic.to(device),
        )

    def __getitem__(self, index: Tensor) -> Targets:
        """The objects that a boolean mask or an index tensor selects."""
        return Targets(
            boxes=self.boxes[index],
            labels=self.labels[index],
            masks=None if self.masks is None else self.masks[index],
            ignored=None if self.ignored is None else self.ignored[index],
            semantic=self.semantic,
        )

    @property
    def not_ignored(self) -> Targets:
        """The ground-truth objects without the ignored ones (crowd, difficult)."""
        return self if self.ignored is None else evolve(self[~self.ignored], ignored=None)

    @property
    def ignored_boxes(self) -> Tensor:
        """(I, 4): the boxes of the ignored objects."""
        return self.boxes[:0] if self.ignored is None else self.boxes[self.ignored]


@frozen(eq=False)
class Detections:
    """The detected objects of one image, by falling score."""

    boxes: Tensor
    """(N, 4) float, in the pixels of the image that was passed in."""
    scores: Tensor
    """(N,) float in [0, 1]."""
    labels: Tensor
    """(N,) int64, 0-based class indices."""
    masks: Tensor | None = None
    """(N, H, W) bool, or None where the model has no masks."""

    def __len__(self) -> int:
        return len(self.boxes)

    def to(self, device: torch.device | str) -> Detections:
        """The same detections on another device."""
        return Detections(
            boxes=self.boxes.to(device),
            scores=self.scores.to(device),
            labels=self.labels.to(device),
            masks=None if self.masks is None else self.masks.to(device),
        )

    def __getitem__(self, index: Tensor | slice) -> Detections:
        """The detections that a boolean mask, an index tensor or a slice selects."""
        return Detections(
            boxes=self.boxes[index],
            scores=self.scores[index],
            labels=self.labels[index],
            masks=None if self.masks is None else self.masks[index],
        )


@frozen(eq=False)
class ImageBatch:
    """Images of different sizes as one tensor, normalised and padded at the bottom and right."""

    tensor: Tensor
    """(B, 3, H, W) float, the network's input."""
    sizes: tuple[tuple[int, int], ...]
    """(height, width) of each image before padding (MMDetection's `img_shape`)."""
    padded_sizes: tuple[tuple[int, int], ...] = field()
    """(height, width) of each image when it alone is padded to the size divisor (MMDetection's `pad_shape`)."""
    output_sizes: tuple[tuple[int, int], ...] = field()
    """(height, width) to which detections are scaled back (MMDetection's `ori_shape`)."""

    def __len__(self) -> int:
        return len(self.sizes)

    def padding(self, features: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
        """For each of `features` (B, C, H_i, W_i): (B, H_i, W_i) bool, True beyond the padded image; None: nowhere."""
        import torch

        height, width = self.tensor.shape[-2:]
        if all(size == (height, width) for size in self.padded_sizes):
            return None
        shares = torch.tensor(self.padded_sizes) / torch.tensor([height, width])
        masks: list[Tensor] = []
        for x in features:
            rows, columns = (
                torch.arange(length) + 0.5 > share[:, None] * length
                for length, share in zip(x.shape[-2:], shares.unbind(1), strict=True)
            )
            masks.append((rows[:, :, None] | columns[:, None]).to(x.device, non_blocking=True))
        return tuple(masks)

    def scales(self, index: int) -> tuple[float, float]:
        """The factors (x, y) that scale boxes of image `index` from network to output pixels."""
        (height, width), (out_height, out_width) = self.sizes[index], self.output_sizes[index]
        return out_width / width, out_height / height


def ceil_to(length: int, divisor: int) -> int:
    """The next multiple of `divisor`, or `length` itself if it is one."""
    return -(-length // divisor) * divisor


def rescaled_size(size: tuple[int, int], scale: tuple[int, int]) -> tuple[int, int]:
    """The largest (height, width) of the same aspect ratio whose edges stay within `scale`, rounded as by mmcv."""
    height, width = size
    factor = min(max(scale) / max(size), min(scale) / min(size))
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))
