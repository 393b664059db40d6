import io
import random
import struct
import threading
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import encoded, googlenet_plan, picture, png_that_claims, tiff_with_offsets_in_text
from numpy.typing import NDArray
from PIL import Image
from pillow_crops import pillow_crops
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as torchvision

from ensemble_eval.crops import pixels
from ensemble_eval.crops.plan import CropRule
from ensemble_eval.crops.protocols import GOOGLENET
from ensemble_eval.crops.views import Resampling
from ensemble_eval.errors import UnreadableImageError

SIZE = (12, 8)
RESAMPLING: Mapping[InterpolationMode, Resampling] = {
    InterpolationMode.BILINEAR: "bilinear",
    InterpolationMode.BICUBIC: "bicubic",
}


def _decoded_colour(data: bytes) -> list[int]:
    """The one colour of a decoded file."""
    image = pixels.decode(data)
    assert image.dtype == torch.uint8
    assert tuple(image.shape) == (3, SIZE[1], SIZE[0])
    assert bool((image == image[:, :1, :1]).all())
    return [int(value) for value in image[:, 0, 0]]


def _palette_image() -> Image.Image:
    image = Image.new("P", SIZE, 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    return image


@pytest.mark.parametrize(
    ("image", "image_format", "expected"),
    [
        (Image.new("L", SIZE, 77), "PNG", [77, 77, 77]),
        (Image.new("1", SIZE, 1), "PNG", [255, 255, 255]),
        (Image.new("LA", SIZE, (77, 0)), "PNG", [77, 77, 77]),
        (Image.new("RGBA", SIZE, (10, 20, 30, 0)), "PNG", [10, 20, 30]),
        (Image.new("CMYK", SIZE, (0, 255, 255, 0)), "TIFF", [255, 0, 0]),
        (Image.new("CMYK", SIZE, (0, 0, 0, 255)), "TIFF", [0, 0, 0]),
        (_palette_image(), "PNG", [10, 200, 30]),
        (_palette_image(), "GIF", [10, 200, 30]),
        (Image.new("RGB", SIZE, (1, 2, 3)), "BMP", [1, 2, 3]),
        (Image.new("RGB", SIZE, (1, 2, 3)), "PPM", [1, 2, 3]),
        (Image.fromarray(np.full(SIZE[::-1], 65535, np.uint16)), "PNG", [255, 255, 255]),
        (Image.fromarray(np.full(SIZE[::-1], 200 * 257, np.uint16)), "PNG", [200, 200, 200]),
        (Image.fromarray(np.full(SIZE[::-1], 200 * 257, np.uint16)), "TIFF", [200, 200, 200]),
    ],
    ids=lambda value: f"{value.mode}" if isinstance(value, Image.Image) else None,
)
def test_every_mode_becomes_rgb(image: Image.Image, image_format: str, expected: list[int]) -> None:
    assert _decoded_colour(encoded(image, image_format)) == expected


def test_transparency_of_a_palette_is_ignored() -> None:
    assert _decoded_colour(encoded(_palette_image(), "PNG", transparency=1)) == [10, 200, 30]


def test_a_cmyk_jpeg_is_not_inverted() -> None:
    red, green, blue = _decoded_colour(encoded(Image.new("CMYK", SIZE, (0, 255, 255, 0)), "JPEG", quality=100))
    assert red > 250
    assert max(green, blue) < 5


def test_exif_orientation_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to view
    upright = picture(40, 30)
    rotated = encoded(upright, "JPEG", exif=exif)
    assert tuple(pixels.decode(rotated).shape) == (3, 30, 40)
    assert torch.equal(pixels.decode(rotated), pixels.decode(encoded(upright, "JPEG")))


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "TIFF", "WEBP", "MPO"])
def test_a_file_of_several_frames_gives_its_first(image_format: str) -> None:
    frames = [Image.new("RGB", SIZE, colour) for colour in ("white", "black")]
    lossless = {"lossless": True} if image_format == "WEBP" else {}
    data = encoded(frames[0], image_format, save_all=True, append_images=frames[1:], **lossless)
    assert _decoded_colour(data) == [255, 255, 255]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(9460, 9460), (30_000, 30_000), (2_000_000, 100_000)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(UnreadableImageError, match="decompression bomb"):
        pixels.decode(png_that_claims(*size))


def test_only_sides_further_apart_than_1_to_100_are_refused() -> None:
    assert tuple(pixels.decode(encoded(picture(200, 2))).shape) == (3, 2, 200)
    for size in ((201, 2), (1, 101)):
        with pytest.raises(UnreadableImageError, match=f"{size[0]}×{size[1]} pixels: sides further apart"):
            pixels.decode(encoded(picture(*size)))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_defined_range_are_refused(mode: str) -> None:
    with pytest.raises(UnreadableImageError, match=f"mode {mode} have no defined range"):
        pixels.decode(encoded(Image.new(mode, SIZE), "TIFF"))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_a_truncated_file_is_unreadable(image_format: str) -> None:
    data = encoded(picture(60, 50), image_format)
    with pytest.raises(UnreadableImageError):
        pixels.decode(data[: len(data) * 2 // 3])


@pytest.mark.parametrize("data", [b"", b"not an image", b"<html></html>", b"\x00" * 100])
def test_what_is_no_image_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableImageError, match="not an image of a known format"):
        pixels.decode(data)


@pytest.mark.parametrize("image_format", ["EPS", "PCX"])
def test_formats_that_no_data_set_holds_are_not_tried(image_format: str) -> None:
    # Pillow hands EPS to Ghostscript, which is no program to feed with strangers' files.
    with pytest.raises(UnreadableImageError, match="not an image of a known format"):
        pixels.decode(encoded(picture(20, 20), image_format))


def test_a_tiff_of_which_pillow_makes_a_type_error_is_unreadable() -> None:
    data = tiff_with_offsets_in_text()
    with Image.open(io.BytesIO(data)) as image, pytest.raises(TypeError):
        image.load()
    with pytest.raises(UnreadableImageError, match="damaged: 'str' object cannot be interpreted as an integer"):
        pixels.decode(data)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("tag"), "'tag'"),
        (MemoryError(), "MemoryError"),
        (OverflowError("one\ntwo"), "one"),
        (RecursionError("too deep"), "too deep"),
        (RuntimeWarning("a warning"), "a warning"),
        (struct.error("4 bytes"), "4 bytes"),
        (zlib.error("header"), "header"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_decoding_raises_makes_the_image_unreadable(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(UnreadableImageError) as raised:
        pixels.decode(encoded(picture(*SIZE)))
    assert str(raised.value) == f"damaged: {reason}"


@pytest.mark.filterwarnings("ignore")
def test_no_small_value_in_any_place_of_a_small_tiff_ends_a_run() -> None:
    """Types and tags of a TIFF's fields are small numbers: damage that stays plausible for longest."""
    whole = encoded(Image.new("L", (2, 2), 7), "TIFF")
    readable = 0
    for place in range(len(whole)):
        for value in (0, 1, 2, 4, 7, 11, 255):
            readable += _is_readable(whole[:place] + bytes([value]) + whole[place + 1 :])
    assert 0 < readable < 7 * len(whole)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("image_format", ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
def test_random_damage_of_every_format_ends_no_run(image_format: str) -> None:
    draw = random.Random(image_format)
    whole = encoded(picture(9, 7), image_format)
    for _ in range(100):
        damaged = bytearray(whole)
        for _ in range(draw.choice((1, 1, 2, 8))):
            # Mostly where the header lies.
            damaged[min(draw.randrange(len(whole)), draw.randrange(len(whole)))] = draw.randrange(256)
        _is_readable(bytes(damaged[: draw.choice((len(whole), draw.randrange(len(whole))))]))


def _is_readable(data: bytes) -> bool:
    """Whether a file gives pixels; what it raises otherwise must be the one error that says so."""
    try:
        image = pixels.decode(data)
    except UnreadableImageError:
        return False
    assert image.dtype == torch.uint8
    assert image.shape[0] == 3
    return True


def test_decoding_in_threads_leaves_the_processs_warning_filters_alone() -> None:
    before = list(warnings.filters)
    data = encoded(picture(300, 200), "JPEG")
    threads = [threading.Thread(target=lambda: [pixels.decode(data) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


def _our_crops(data: bytes, resampling: Resampling = "bilinear") -> list[NDArray[np.uint8]]:
    image = pixels.decode(data)
    _, height, width = image.shape
    source = pixels.prepare(image, CropRule((GOOGLENET,), 144, resampling).plan(width, height))
    [group] = source.plan.groups
    return [source.cut(source.plan.views[view]).permute(1, 2, 0).numpy() for view in group.view_of_crop]


def _differences(ours: list[NDArray[np.uint8]], theirs: list[NDArray[np.uint8]]) -> NDArray[np.int64]:
    """How many of the 144 crops' values differ by 0, 1, 2, … grey levels."""
    assert len(ours) == len(theirs) == 144
    counts = np.zeros(256, np.int64)
    for one, other in zip(ours, theirs, strict=True):
        counts += np.bincount((np.maximum(one, other) - np.minimum(one, other)).ravel(), minlength=256)
    return counts


@pytest.mark.parametrize("size", [(500, 375), (333, 501), (300, 300), (101, 67), (40, 90)])
def test_all_144_crops_are_pillows(size: tuple[int, int]) -> None:
    image = picture(*size)
    counts = _differences(_our_crops(encoded(image)), pillow_crops(image))
    assert counts[3:].sum() == 0
    assert counts[2:].sum() < counts.sum() / 100_000


def test_bicubic_crops_are_pillows_bicubic_ones() -> None:
    image = picture(320, 240)
    ours, theirs = _our_crops(encoded(image), "bicubic"), pillow_crops(image, Image.Resampling.BICUBIC)
    counts = _differences(ours, theirs)
    assert counts[3:].sum() == 0
    assert counts[2:].sum() < counts.sum() / 1000


@pytest.mark.slow
def test_all_144_crops_of_20_photographs_are_pillows(photographs: list[Path]) -> None:
    counts = np.zeros(256, np.int64)
    for path in photographs[:: len(photographs) // 20][:20]:
        with Image.open(path) as image:
            counts += _differences(_our_crops(path.read_bytes()), pillow_crops(image))
    assert counts.sum() == 20 * 144 * 224 * 224 * 3
    assert counts[3:].sum() == 0
    assert counts[2:].sum() < counts.sum() / 100_000


@pytest.mark.parametrize("processor", ["this", "DEFAULT"])
@pytest.mark.parametrize("mode", RESAMPLING)
@pytest.mark.parametrize("size", [(17, 11), (352, 470), (40, 64), (64, 40), (1, 300)])
def test_resizing_gives_torchvisions_pixels_in_its_layout(
    size: tuple[int, int], mode: InterpolationMode, processor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if processor != "this":
        # Without AVX2, torchvision goes by way of float32.
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: processor)
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
    decoded = pixels.decode(encoded(picture(64, 40)))
    for image in (decoded, decoded.contiguous(), decoded[:, 3:33, 5:45]):
        ours = pixels.resize(image, *size, RESAMPLING[mode])
        theirs = torchvision.resize(image, list(size), interpolation=mode, antialias=True)
        assert torch.equal(ours, theirs)
        assert ours.stride() == theirs.stride()


def test_an_image_is_resized_only_to_the_scales_that_the_scheme_needs() -> None:
    image = pixels.decode(encoded(picture(320, 240)))
    source = pixels.prepare(image, googlenet_plan(320, 240, 10))
    assert list(source.regions) == [GOOGLENET.canvas(256)]


def test_an_image_that_cannot_be_resized_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("not enough memory: you tried to allocate 3 bytes")

    image = pixels.decode(encoded(picture(*SIZE)))
    monkeypatch.setattr(pixels, "resize", full)
    with pytest.raises(UnreadableImageError, match="cannot be resized: not enough memory"):
        pixels.prepare(image, googlenet_plan(*SIZE, 1))
