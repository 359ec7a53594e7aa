"""Instance masks: cut out of the ground truth as training targets, pasted into the image at test time.

Shapes: N masks of one image of size (H, W); P boxes, each with one of them; masks of boxes are (h, w).
Both directions work in pieces, so that memory stays bounded however many instances there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from detcfg.ops import roi_align, unique

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE: Final = 2**24
"""Float values that one piece of the work may hold: 64 MB."""


def crop_and_resize(
    masks: Tensor,
    boxes: Tensor,
    indices: Tensor,
    mask_size: tuple[int, int],
    *,
    canvas: tuple[int, int] | None = None,
    binarize: bool = True,
) -> Tensor:
    """The mask targets of boxes: the part of an object's mask that lies in its box, resized.

    Args:
        masks: (N, H, W) bool.
        boxes: (P, 4) xyxy, clipped to the canvas.
        indices: (P,) int64, the mask of each box.
        mask_size: (h, w) of the result.
        canvas: (height, width) of the batch. Beyond its own image a mask is zero, and a cell on
            the image's border mixes with that, as in MMDetection, which pads masks with images.
        binarize: Whether a cell is 1 where at least half of it is covered and else 0, or the covered share.

    Returns:
        (P, h, w) float.

    Follows `BitmapMasks.crop_and_resize` in mmdet/structures/mask/structures.py.
    """
    height, width = canvas or (masks.shape[-2], masks.shape[-1])
    # One row and one column beyond the image are all that interpolation can reach.
    below, right = min(height - masks.shape[-2], 1), min(width - masks.shape[-1], 1)
    limits = boxes.new_tensor((width, height, width, height))
    boxes = torch.minimum(boxes.detach().clamp(min=0), limits)
    cropped = boxes.new_zeros((len(boxes), *mask_size))
    used, inverse = unique(indices)
    for part in _pieces(len(used), masks.shape[-2:].numel()):
        chosen = ((inverse >= part.start) & (inverse < part.stop)).nonzero().flatten()
        images = F.pad(masks[used[part], None].to(boxes.dtype), (0, right, 0, below))
        slots = (inverse[chosen] - part.start).to(boxes.dtype)
        rois = torch.cat((slots[:, None], boxes[chosen]), dim=1)
        cropped[chosen] = roi_align(images, rois, mask_size).squeeze(1)
    return (cropped >= 0.5).to(boxes.dtype) if binarize else cropped


def shares_within(masks: Tensor, boxes: Tensor, indices: Tensor) -> Tensor:
    """The share of an object's mask that lies in its box.

    Args:
        masks: (N, H, W) bool.
        boxes: (P, 4) xyxy; the pixels from their corners, rounded down, at least one in each direction.
        indices: (P,) int64, the mask of each box.

    Returns:
        (P,) float in [0, 1]; 0 where the mask has no pixels.

    Follows `MaskIoUHead._get_area_ratio` in mmdet/models/roi_heads/mask_heads/maskiou_head.py.
    """
    height, width = masks.shape[-2:]
    x1, y1, x2, y2 = boxes.detach().long().clamp(min=0).unbind(dim=1)
    x1, y1, x2, y2 = x1.clamp(max=width), y1.clamp(max=height), x2.clamp(max=width), y2.clamp(max=height)
    x2, y2 = torch.maximum(x2, x1 + 1).clamp(max=width), torch.maximum(y2, y1 + 1).clamp(max=height)
    shares = boxes.new_zeros(len(boxes))
    used, inverse = unique(indices)
    for part in _pieces(len(used), 2 * height * width):
        chosen = ((inverse >= part.start) & (inverse < part.stop)).nonzero().flatten()
        # Of each corner, the pixels above and left of it: a box's are the difference of four such sums.
        sums = F.pad(
            masks[used[part]].int().cumsum(1, dtype=torch.int32).cumsum(2, dtype=torch.int32), (1, 0, 1, 0)
        )
        slots, left, top, right, bottom = (v[chosen] for v in (inverse - part.start, x1, y1, x2, y2))
        inside = sums[slots, bottom, right] - sums[slots, top, right]
        inside = inside - sums[slots, bottom, left] + sums[slots, top, left]
        shares[chosen] = inside / (sums[slots, -1, -1] + 1e-7)
    return shares


def at_points(masks: Tensor, points: Tensor, indices: Tensor) -> Tensor:
    """Masks at points, by bilinear interpolation; beyond its image a mask is zero.

    Args:
        masks: (N, H, W) bool.
        points: (P, Q, 2) xy in pixels, whose centres are at halves.
        indices: (P,) int64, the mask of each row of points.

    Returns:
        (P, Q) float in [0, 1].
    """
    height, width = masks.shape[-2:]
    x, y = (points - 0.5).unbind(dim=2)
    left, top = x.floor(), y.floor()
    sampled = torch.zeros_like(x)
    for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
        weight = (1 - (x - column).abs()) * (1 - (y - row).abs())
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        rows, columns = row.long().clamp(0, height - 1), column.long().clamp(0, width - 1)
        sampled = sampled + weight * (masks[indices[:, None], rows, columns] & inside)
    return sampled


def paste(masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Paste masks of boxes into the image.

    Args:
        masks: (N, h, w) float, the probability of each cell of a box.
        boxes: (N, 4) xyxy in pixels of the image.
        size: (H, W) of the image.
        threshold: A pixel belongs to an object from this probability on.

    Returns:
        (N, H, W) bool. A mask ends one pixel outside its box.

    Follows `_do_paste_mask` in mmdet/models/roi_heads/mask_heads/fcn_mask_head.py.
    """
    height, width = size
    pasted = torch.zeros((len(masks), height, width), dtype=torch.bool, device=masks.device)
    if masks.device.type == "cpu":  # one by one, so that only the pixels of each box are visited
        for canvas, mask, box in zip(pasted, masks, boxes, strict=True):
            left, top, right, bottom = _surroundings(box, size)
            if left < right and top < bottom:
                rows = torch.arange(top, bottom)
                columns = torch.arange(left, right)
                values = _sample(mask[None], box[None], rows, columns)[0]
                canvas[top:bottom, left:right] = values >= threshold
        return pasted
    rows = torch.arange(height, device=masks.device)
    columns = torch.arange(width, device=masks.device)
    for part in _pieces(len(masks), 4 * height * width):
        values = _sample(masks[part], boxes[part], rows, columns)
        pasted[part] = (values >= threshold) & _inside(boxes[part], rows, columns)
    return pasted


def centres(masks: Tensor) -> Tensor:
    """The centres of mass (x, y) of masks (N, H, W), in whole pixels: (N, 2) float.

    The centre of a mask without pixels is (0, 0).
    """
    height, width = masks.shape[-2:]
    columns, rows = masks.sum(dim=1), masks.sum(dim=2)
    x = (columns * torch.arange(width, device=masks.device)).sum(dim=1)
    y = (rows * torch.arange(height, device=masks.device)).sum(dim=1)
    return torch.stack((x, y), dim=1) / rows.sum(dim=1, keepdim=True).float().clamp(min=1e-6)


def shrink(masks: Tensor, stride: float, canvas: tuple[int, int]) -> Tensor:
    """Masks, shrunk to the cells of a feature map.

    Args:
        masks: (N, H, W) bool.
        stride: Of the feature map: pixels of the image to a cell of the result.
        canvas: (height, width) of the batch; beyond its own image a mask is zero.

    Returns:
        (N, canvas / stride) bool, by bilinear interpolation, rounded, as OpenCV's `resize`.
    """
    below, right = canvas[0] - masks.shape[-2], canvas[1] - masks.shape[-1]
    size = (int(canvas[0] / stride + 0.5), int(canvas[1] / stride + 0.5))
    shrunk = torch.zeros((len(masks), *size), dtype=torch.bool, device=masks.device)
    for part in _pieces(len(masks), canvas[0] * canvas[1]):
        padded = F.pad(masks[part, None].float(), (0, right, 0, below))
        shrunk[part] = F.interpolate(padded, size, mode="bilinear")[:, 0] >= 0.5
    return shrunk


def enlarge(
    masks: Tensor,
    canvas: tuple[int, int],
    size: tuple[int, int],
    output_size: tuple[int, int],
    threshold: float = 0.5,
) -> Tensor:
    """Masks of a feature map, enlarged to the pixels of the output image.

    Args:
        masks: (N, h, w) float, the probability of each cell of the batch's canvas.
        canvas: (height, width) of the batch.
        size: (height, width) of the image in the batch.
        output_size: (height, width) of the result.
        threshold: A pixel belongs to an object above this probability.

    Returns:
        (N, output_size) bool.
    """
    enlarged = torch.zeros((len(masks), *output_size), dtype=torch.bool, device=masks.device)
    for part in _pieces(len(masks), 2 * canvas[0] * canvas[1] + output_size[0] * output_size[1]):
        values = F.interpolate(masks[part, None], canvas, mode="bilinear")
        values = F.interpolate(values[..., : size[0], : size[1]], output_size, mode="bilinear")
        enlarged[part] = values[:, 0] > threshold
    return enlarged


def _pieces(count: int, values_each: int) -> Iterator[slice]:
    """Slices that cover `count` items of `values_each` float values, each slice within `PIECE`."""
    step = max(PIECE // max(values_each, 1), 1)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _surroundings(box: Tensor, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The pixels (left, top, right, bottom) of a box and one more on each side, within the image."""
    left, top, right, bottom = (float(edge) for edge in box)
    return (
        int(max(left // 1 - 1, 0)),
        int(max(top // 1 - 1, 0)),
        int(min(-(-right // 1) + 1, size[1])),
        int(min(-(-bottom // 1) + 1, size[0])),
    )


def _inside(boxes: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(N, rows, columns) bool: the surroundings of each box."""
    x1, y1, x2, y2 = boxes[..., None].unbind(1)
    in_columns = (columns >= x1.floor() - 1) & (columns < x2.ceil() + 1)
    in_rows = (rows >= y1.floor() - 1) & (rows < y2.ceil() + 1)
    return in_rows[:, :, None] & in_columns[:, None, :]


def _sample(masks: Tensor, boxes: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The masks (N, h, w) of boxes (N, 4) at the centres of pixels: (N, rows, columns) float."""
    x1, y1, x2, y2 = boxes.float()[..., None].unbind(1)
    # A box without extent divides by zero: MMDetection gives all its pixels the centre's value.
    y = (((rows + 0.5) - y1) / (y2 - y1) * 2 - 1).nan_to_num(torch.nan, 0.0, 0.0)
    x = (((columns + 0.5) - x1) / (x2 - x1) * 2 - 1).nan_to_num(torch.nan, 0.0, 0.0)
    shape = (len(masks), len(rows), len(columns))
    grid = torch.stack((x[:, None, :].expand(shape), y[:, :, None].expand(shape)), dim=3)
    return F.grid_sample(masks[:, None].float(), grid, align_corners=False)[:, 0]
