"""What a detector is given, checked before it computes: images that are read as others, and objects that are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from attrs import evolve

from detcfg.errors import DetcfgError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from detcfg.structures import Targets


def check_images(images: Sequence[Tensor]) -> None:
    """Refuse what is no uint8 RGB image (3, H, W).

    Raises:
        DetcfgError: An image has another type or shape; the message says how to convert it.
    """
    for index, image in enumerate(images):
        shape = tuple(image.shape)
        if image.dtype == torch.uint8 and len(shape) == 3 and shape[0] == 3:
            continue
        if image.dtype != torch.uint8:
            remedy = (
                "Of values from 0 to 1, as torchvision's detectors take them, make (image * 255).round().to(torch.uint8)."
                if image.is_floating_point()
                else "Convert it by image.to(torch.uint8)."
            )
        else:
            remedy = (
                "Carry the channels to the front: image.permute(2, 0, 1)."
                if len(shape) == 3 and shape[2] == 3
                else "Give each image by itself, with three channels."
            )
        raise DetcfgError(
            f"image {index} is {image.dtype} of shape {shape}, and a detector takes uint8 RGB images (3, H, W) with "
            f"values from 0 to 255. {remedy}"
        )


def checked_targets(
    images: Sequence[Tensor], targets: Sequence[Targets], num_classes: int | None
) -> list[Targets]:
    """Targets as `detcfg.data`'s loader gives them: boxes are clipped to their image.

    Args:
        images: (3, H, W) each.
        targets: The objects of each image.
        num_classes: Labels count from 0 to below this; None: they are not checked.

    Raises:
        DetcfgError: A shape is wrong, a box is not finite, without width or height or outside its image, or a
            label is of no class.
    """
    if len(images) != len(targets):
        raise DetcfgError(
            f"There are {len(images)} images and the targets of {len(targets)}. Give one for each."
        )
    for index, (image, target) in enumerate(zip(images, targets, strict=True)):
        _check_shapes(index, image, target)
    return [
        _checked(index, (image.shape[-2], image.shape[-1]), target, num_classes)
        for index, (image, target) in enumerate(zip(images, targets, strict=True))
    ]


def _check_shapes(index: int, image: Tensor, target: Targets) -> None:
    count = len(target.boxes)
    size = tuple(image.shape[-2:])
    shapes: list[tuple[str, Tensor | None, tuple[int, ...]]] = [
        ("boxes", target.boxes, (count, 4)),
        ("labels", target.labels, (count,)),
        ("ignored", target.ignored, (count,)),
        ("masks", target.masks, (count, *size)),
        ("semantic", target.semantic, size),
    ]
    for name, value, shape in shapes:
        if value is not None and tuple(value.shape) != shape:
            raise DetcfgError(
                f"the targets of image {index}: {name} has the shape {tuple(value.shape)}, and should have {shape}: "
                f"there are {count} boxes, and the image has {size[0]} rows and {size[1]} columns."
            )


def _checked(index: int, size: tuple[int, int], target: Targets, num_classes: int | None) -> Targets:
    boxes, labels = target.boxes, target.labels
    if boxes.is_meta or not len(boxes):
        return target
    height, width = size
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    known = labels >= 0 if num_classes is None else (labels >= 0) & (labels < num_classes)
    if target.ignored is not None:
        known = known | target.ignored
    faults = torch.stack(
        (
            ~boxes.isfinite().all(dim=1),
            (x2 <= x1) | (y2 <= y1),
            (x1 >= width) | (y1 >= height) | (x2 <= 0) | (y2 <= 0),
            ~known,
        )
    )
    beyond = (x1 < 0) | (y1 < 0) | (x2 > width) | (y2 > height)
    # Read at once, for targets on a GPU.
    some: list[bool] = torch.cat((faults, beyond[None])).any(dim=1).cpu().numpy().tolist()
    for fault, rows in enumerate(faults):
        if some[fault]:
            row = int(rows.nonzero()[0])
            box = [round(float(value), 2) for value in boxes[row]]
            says = (
                f"box {row}, {box}, is not finite",
                f"box {row}, {box}, has no width or no height; it has to be (x1, y1, x2, y2)",
                f"box {row}, {box}, lies outside the image of {width}x{height}",
                f"label {row} is {int(labels[row])}, and the detector has {num_classes} classes, counted from 0",
            )[fault]
            raise DetcfgError(f"the targets of image {index}: {says}. Correct it, or leave the object out.")
    if not some[-1]:
        return target
    return evolve(
        target, boxes=torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height]).repeat(2))
    )
