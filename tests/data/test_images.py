"""Image files of every kind become RGB, and what is none is refused with a reason."""

from __future__ import annotations

import io
import os
import struct
import tempfile
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from detcfg.data import images
from detcfg.data.errors import DataError
from detcfg.data.images import image_size, lost_levels, problem_of_name, read_image

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 10, 3)).astype(np.uint8)


def rgb(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(read_image(str(path)).permute(1, 2, 0))


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG of one grey bit a pixel."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr", "I;16"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    colour = Image.fromarray(PIXELS)
    if mode == "I;16":
        image, expected = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 256), PIXELS[..., [0, 0, 0]]
    else:
        image = colour.convert(mode)
        expected = np.asarray(image.convert("RGB"))
    path = tmp_path / ("image.tiff" if mode in ("CMYK", "YCbCr") else "image.png")
    image.save(path)
    assert np.array_equal(rgb(path), expected)


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, PIXELS),
        (2, PIXELS[:, ::-1]),
        (3, PIXELS[::-1, ::-1]),
        (4, PIXELS[::-1]),
        (5, PIXELS.transpose(1, 0, 2)),
        (6, np.rot90(PIXELS, -1)),
        (7, PIXELS[::-1, ::-1].transpose(1, 0, 2)),
        (8, np.rot90(PIXELS)),
    ],
)
def test_images_are_turned_as_their_exif_says(
    tmp_path: Path, orientation: int, turned: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "image.png"
    Image.fromarray(PIXELS).save(path, exif=exif)
    assert np.array_equal(rgb(path), turned)
    assert image_size(str(path)) == turned.shape[:2]
    stored = read_image(str(path), ignore_orientation=True)
    assert np.array_equal(stored.permute(1, 2, 0), PIXELS)
    assert image_size(str(path), ignore_orientation=True) == PIXELS.shape[:2]


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    quality=st.integers(1, 100),
    subsampling=st.sampled_from([0, 1, 2]),
    progressive=st.booleans(),
    keep_rgb=st.booleans(),
    orientation=st.sampled_from([None, 1, 3, 6]),
)
def test_a_jpeg_has_the_pixels_that_pillow_gives_it(
    *,
    height: int,
    width: int,
    quality: int,
    subsampling: int,
    progressive: bool,
    keep_rgb: bool,
    orientation: int | None,
) -> None:
    noise = np.random.default_rng(height * 71 + width).integers(0, 256, (height, width, 3)).astype(np.uint8)
    path = Path(tempfile.gettempdir(), f"detcfg-{os.getpid()}-pixels.jpg")
    options: dict[str, Any] = {"quality": quality, "progressive": progressive}
    options |= {"keep_rgb": True} if keep_rgb else {"subsampling": subsampling}
    if orientation is not None:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation
    Image.fromarray(noise).save(path, **options)
    try:
        with Image.open(path) as image:
            expected, turned = np.asarray(image), np.asarray(ImageOps.exif_transpose(image))
        found, stored = read_image(str(path)), read_image(str(path), ignore_orientation=True)
    finally:
        path.unlink()

    np.testing.assert_array_equal(stored.permute(1, 2, 0), expected)
    np.testing.assert_array_equal(found.permute(1, 2, 0), turned)
    assert found.permute(1, 2, 0).is_contiguous()


@pytest.mark.filterwarnings("error")
def test_a_jpeg_is_read_without_a_warning(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg")
    read_image(str(tmp_path / "a.jpg"))


def test_torchcodec_decodes_jpegs_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoders = pytest.importorskip("torchcodec.decoders")
    asked: list[str] = []

    def decode_jpeg(path: str) -> object:
        asked.append(path)
        return decoders.decode_jpeg(path)

    path = tmp_path / "a.jpg"
    Image.fromarray(PIXELS).save(path)
    images._torchcodec.cache_clear()
    monkeypatch.setattr(images, "import_module", lambda _: SimpleNamespace(decode_jpeg=decode_jpeg))
    by_torchcodec = read_image(str(path))
    assert asked == [str(path)]
    images._torchcodec.cache_clear()
    monkeypatch.setattr(images, "_torchcodec", lambda: None)
    assert np.array_equal(by_torchcodec, read_image(str(path)))


@pytest.mark.parametrize("error", [ImportError, OSError, RuntimeError])
def test_a_torchcodec_of_another_torch_is_no_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def broken(_: str) -> object:
        raise error

    Image.fromarray(PIXELS).save(tmp_path / "a.jpg")
    images._torchcodec.cache_clear()
    monkeypatch.setattr(images, "import_module", broken)
    assert read_image(str(tmp_path / "a.jpg")).shape == (3, 6, 10)
    images._torchcodec.cache_clear()


def test_pillow_says_what_is_wrong_with_a_jpeg_that_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "damaged.jpg"
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[:-200])
    with pytest.raises(DataError, match=r"damaged.jpg: the image is damaged: .*truncated"):
        read_image(str(path))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "bmp"])
def test_an_image_that_was_cut_off_is_damaged(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"cut.{suffix}"
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DataError, match=f"cut.{suffix}: (the image is damaged|this is not an image)"):
        read_image(str(path))


def test_a_file_that_is_absent_or_no_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent.jpg: there is no such image"):
        read_image(str(tmp_path / "absent.jpg"))
    (tmp_path / "text.jpg").write_text("not an image")
    with pytest.raises(DataError, match="not an image of a known format"):
        read_image(str(tmp_path / "text.jpg"))
    with pytest.raises(DataError, match="damaged"):
        read_image(str(tmp_path))


def test_an_image_bomb_is_refused_by_its_head(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(40_000, 40_000))
    with pytest.raises(DataError, match=r"bomb.png: the image is too large: .*1600000000 pixels"):
        read_image(str(path))
    with pytest.raises(DataError, match="too large"):
        image_size(str(path))
    path.write_bytes(png(12_000, 12_000))
    with pytest.raises(DataError, match="12000x12000 pixels, more than the 134217728 that are read"):
        read_image(str(path))
    path.write_bytes(png(2**31 - 1, 2**31 - 1))
    with pytest.raises(DataError, match=r"bomb.png"):
        read_image(str(path))


def test_the_limit_of_pixels_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(PIXELS).save(path)
    assert read_image(str(path), max_pixels=60).shape == (3, 6, 10)
    with pytest.raises(DataError, match="10x6 pixels, more than the 59"):
        read_image(str(path), max_pixels=59)


def test_the_limit_of_pixels_can_be_set_beyond_pillows_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(PIXELS).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(DataError, match=r"the image is too large: .*60 pixels.* Raise max_pixels if"):
        read_image(str(path), max_pixels=40)
    assert read_image(str(path), max_pixels=60).shape == (3, 6, 10)
    assert image_size(str(path), max_pixels=60) == (6, 10)
    assert Image.MAX_IMAGE_PIXELS == 20


@pytest.mark.parametrize(("highest", "left"), [(255, 1), (4095, 16), (8000, 32), (65535, 256)])
def test_shades_of_16_bits_that_are_lost_are_counted(tmp_path: Path, highest: int, left: int) -> None:
    path = tmp_path / "thermal.png"
    Image.fromarray(np.linspace(0, highest, 80 * 100).astype(np.uint16).reshape(80, 100)).save(path)
    image = read_image(str(path))
    assert len(image.unique()) == left
    told = lost_levels(str(path), image)
    assert (f"shades up to {highest:,}, of which the upper 8 bits leave {left}. Convert" in told) == (
        left < 32
    )


def test_few_shades_are_no_matter_where_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    for deep in (np.uint8, np.uint16):
        Image.fromarray(np.eye(9).astype(deep) * np.iinfo(deep).max).save(path)
        assert not lost_levels(str(path), read_image(str(path)))


def _whole(suffix: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, suffix)
    return buffer.getvalue()


WHOLE = {suffix: _whole(suffix) for suffix in ("jpeg", "png", "gif", "bmp", "tiff", "webp")}


@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_bytes_that_were_changed_are_read_or_refused_but_never_crash(
    suffix: str, data: st.DataObject
) -> None:
    content = bytearray(WHOLE[suffix])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = Path(tempfile.gettempdir(), f"detcfg-{os.getpid()}.{suffix}")
    path.write_bytes(content)
    try:
        assert read_image(str(path), max_pixels=10_000).shape[0] == 3
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017
    finally:
        path.unlink()


@pytest.mark.parametrize(
    "name",
    [
        "../a.jpg",
        "a/../../b.jpg",
        "/etc/passwd",
        "C:\\a.jpg",
        "\\\\host\\a.jpg",
        "a\\..\\..\\b",
        "",
        "a\0b",
        None,
        3,
    ],
)
def test_names_that_lead_elsewhere_may_not_be_used(name: object) -> None:
    assert problem_of_name(name)


@pytest.mark.parametrize("name", ["a.jpg", "a/b/c.jpg", "a..b.jpg", "..a/b.jpg", "ä b.jpg"])
def test_names_inside_the_folder_may(name: str) -> None:
    assert not problem_of_name(name)


def photograph(path: Path, width: int, height: int, mode: str = "RGB", **options: object) -> Path:
    """A JPEG of smooth shades."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // 40, width // 40, 3)).astype(np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    image.convert(mode).save(path, quality=95, **options)
    return path


@pytest.mark.parametrize(
    ("size", "draft", "part"),
    [
        ((640, 400), (640, 400), 1),
        ((640, 400), (400, 300), 1),
        ((640, 400), (320, 200), 2),
        ((641, 401), (150, 160), 4),
        ((640, 400), (1333, 40), 8),
        ((400, 641), (80, 10), 8),
    ],
)
def test_a_draft_is_the_smallest_part_that_the_resize_only_shrinks(
    tmp_path: Path, size: tuple[int, int], draft: tuple[int, int], part: int
) -> None:
    path = photograph(tmp_path / "a.jpg", *size)
    image = read_image(str(path), draft_size=draft)
    height, width = image.shape[1:]

    assert (width, height) == (-(-size[0] // part), -(-size[1] // part))
    whole = Image.open(path).resize((width, height), Image.Resampling.BOX)
    # Where the size is no multiple, the last pixel stands for less than the others: the box filter knows it.
    limit = 3 if size == (640, 400) else 8
    assert np.abs(np.asarray(whole).astype(int) - image.permute(1, 2, 0).numpy()).mean() < limit


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_drafts_of_other_modes_are_rgb_too(tmp_path: Path, mode: str) -> None:
    path = photograph(tmp_path / "a.jpg", 400, 320, mode)
    assert read_image(str(path), draft_size=(200, 200)).shape == (3, 160, 200)


def test_a_draft_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = photograph(tmp_path / "a.jpg", 400, 320, exif=exif)
    assert read_image(str(path), draft_size=(200, 200)).shape == (3, 200, 160)


def test_what_is_no_jpeg_is_read_whole(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    assert read_image(str(tmp_path / "a.png"), draft_size=(2, 2)).shape == (3, 6, 10)
