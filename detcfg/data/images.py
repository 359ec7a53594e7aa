"""Reading image files as RGB, whatever they hold."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from detcfg.data.errors import DataError
from detcfg.structures import rescaled_size

MAX_PIXELS: Final = 128 * 1024 * 1024
"""Larger images are refused: a small file may unpack to more memory than the machine has."""
FORMATS: Final = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
"""Pillow reads more, some of them by starting other programs."""
SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp")
_ORIENTATION: Final = 0x0112
_SIDEWAYS: Final = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""


def read_image(
    path: str,
    *,
    ignore_orientation: bool = False,
    max_pixels: int = MAX_PIXELS,
    draft_size: tuple[int, int] | None = None,
) -> Tensor:
    """Read an image file as (3, H, W) uint8 RGB, the three values of a pixel side by side in memory.

    So files have them, and so they are resized fastest.
    Grey, palette, RGBA, CMYK and 16-bit images become RGB; transparency is dropped.

    Args:
        path: The file.
        ignore_orientation: Take the pixels as they are stored, not as EXIF turns them.
        max_pixels: Refuse images of more pixels.
        draft_size: The longest and the shortest edge that will be made of the image, in any order. A JPEG
            is decoded at a half, a quarter or an eighth of its size where that is no less.

    Raises:
        DataError: The file is absent, is no image, is damaged or is too large.
    """
    with _opened(path, max_pixels) as image:
        as_stored = ignore_orientation or image.getexif().get(_ORIENTATION, 1) == 1
        if draft_size is None and image.format == "JPEG" and image.mode == "RGB" and "exif" not in image.info:
            decoded = _decoded(path)
            if decoded is not None:
                return decoded
        if draft_size is not None:
            height, width = rescaled_size((image.height, image.width), draft_size)
            image.draft(None, (width, height))
        # Always a copy or an exclusive buffer, so that torch may own it.
        pixels = _to_rgb(image if as_stored else ImageOps.exif_transpose(image))
        return torch.as_tensor(pixels).permute(2, 0, 1)


def image_size(
    path: str, *, ignore_orientation: bool = False, max_pixels: int = MAX_PIXELS
) -> tuple[int, int]:
    """(height, width) of an image, of which only the head is read.

    Raises:
        DataError: The file is absent, is no image or is too large.
    """
    with _opened(path, max_pixels) as image:
        sideways = not ignore_orientation and image.getexif().get(_ORIENTATION) in _SIDEWAYS
        return image.size if sideways else (image.height, image.width)


def lost_levels(path: str, image: Tensor) -> str:
    """What is lost of an image of 16 bits that was read as `image`, if little is left; empty if it is sound.

    The upper 8 of 16 bits are read, as OpenCV does: cameras that use the lower ones alone leave a few shades.
    """
    with Image.open(path, formats=FORMATS) as file:
        if not file.mode.startswith("I") or (left := len(np.unique(image.numpy()))) >= _FEW_LEVELS:
            return ""
        values = np.unique(np.asarray(file))
    if len(values) <= left:
        return ""
    return (
        f"its 16 bits a pixel hold {len(values):,} shades up to {values.max():,}, of which the upper 8 bits "
        f"leave {left}. Convert it to 8 bits, stretched from 0 to 255"
    )


_FEW_LEVELS: Final = 32


def problem_of_name(name: object) -> str:
    """Why an image's `file_name` may not be used; empty if it may.

    Annotations come from elsewhere, and must not reach files outside the image folder.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        return f"its file_name is {name!r}, which is no file's name"
    windows = PureWindowsPath(name)
    if PurePosixPath(name).is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        return f"its file_name {name!r} leads out of the image folder"
    return ""


def seen_from(folder: str | Path, name: object) -> object:
    """An absolute path inside a folder as it is seen from there; any other name stays."""
    if not isinstance(name, str) or "\0" in name or not os.path.isabs(name):  # noqa: PTH117 - Path() of any text may fail
        return name
    path = Path(os.path.normpath(name))  # without `..`, which might lead out again
    for root in (Path(os.path.abspath(folder)), Path(os.path.realpath(folder))):  # noqa: PTH100 - resolve() alone follows links
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return name


_TOO_LARGE: Final = "Raise max_pixels if you trust the file; or shrink it, or leave it out."


@contextmanager
def _limited(max_pixels: int) -> Generator[None]:
    """Pillow's own limit, where ours is set higher: it refuses what has more than twice its `MAX_IMAGE_PIXELS`."""
    before = Image.MAX_IMAGE_PIXELS
    if before is None or max_pixels <= 2 * before:
        yield
        return
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


@contextmanager
def _opened(path: str, max_pixels: int) -> Generator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the size is checked here, and broken EXIF is no matter
            with _limited(max_pixels), Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > max_pixels:
                    raise DataError(
                        f"{path}: the image has {image.width}x{image.height} pixels, more than the "
                        f"{max_pixels} that are read (max_pixels of the dataset). {_TOO_LARGE}"
                    )
                yield image
    except FileNotFoundError:
        raise DataError(
            f"{path}: there is no such image. Put it there, or correct the image folder."
        ) from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: the image is too large: {error} {_TOO_LARGE}") from None
    except UnidentifiedImageError:
        raise DataError(
            f"{path}: this is not an image of a known format ({', '.join(FORMATS)}). Replace it, or leave it out."
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        # Pillow's readers raise all of these on damaged files.
        raise DataError(f"{path}: the image is damaged: {error}. Replace it, or leave it out.") from None


def _decoded(path: str) -> Tensor | None:
    """A JPEG of three colours without EXIF, by torchcodec; None if it is not installed or refuses the file.

    It gives Pillow's pixels in four fifths of its time. It turns images by their EXIF itself, and not always as
    Pillow reads that, so that others are left to Pillow.
    """
    if (decode := _torchcodec()) is None:
        return None
    try:
        return decode(path)
    except (RuntimeError, ValueError, OSError):
        return None  # Pillow knows better what is wrong with it


@cache
def _torchcodec() -> Callable[[str], Tensor] | None:
    try:
        found: Callable[[str], Tensor] = import_module("torchcodec.decoders").decode_jpeg
    except (
        ImportError,
        OSError,
        RuntimeError,
        AttributeError,
    ):  # of another torch, or too old, it fails in any way
        return None
    return found


def _to_rgb(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow would clip 16 bits at 255.
        deep = np.clip(np.asarray(image, dtype=np.int64), 0, 65535)
        grey = (deep >> 8 if image.mode.startswith("I;16") or deep.max(initial=0) > 255 else deep).astype(
            np.uint8
        )
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "F":
        raise DataError(
            f"{getattr(image, 'filename', '')}: an image of floats has no colours. Convert it to 8 bits."
        )
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))
