import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import encoded, picture
from PIL import Image

from ensemble_eval.crops import pixels
from ensemble_eval.crops.plan import CropRule
from ensemble_eval.crops.protocols import GOOGLENET
from ensemble_eval.datasets import items as items_module
from ensemble_eval.datasets.items import FileItem
from ensemble_eval.engine.pool import ReadyImage, UnreadableImage
from ensemble_eval.jobs import prefetch

RULE = CropRule((GOOGLENET,), 1)


def write_items(folder: Path, count: int) -> list[tuple[int, FileItem]]:
    items = []
    for index in range(count):
        path = folder / f"{index:02}.png"
        path.write_bytes(encoded(picture(40 + index, 30, seed=index)))
        items.append((index, FileItem(path.name, index, folder)))
    return items


def test_images_come_in_order_with_their_positions_whatever_the_workers(tmp_path: Path) -> None:
    items = write_items(tmp_path, 12)[3:]
    images = list(prefetch.load_images(items, RULE, workers=3, ahead=4))
    assert [(image.position, image.id, image.label) for image in images if isinstance(image, ReadyImage)] == [
        (index, f"{index:02}.png", index) for index in range(3, 12)
    ]


def test_unreadable_images_keep_their_place_and_say_why(tmp_path: Path) -> None:
    items = write_items(tmp_path, 3)
    items[1][1].path.write_bytes(b"no image")
    items[2][1].path.unlink()
    images = list(prefetch.load_images(items, RULE, workers=2, ahead=2))
    assert images[1:] == [
        UnreadableImage("01.png", "not an image of a known format"),
        UnreadableImage("02.png", "cannot be read (No such file or directory)"),
    ]


def test_whatever_reading_decoding_and_resizing_raise_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    items = write_items(tmp_path, 1)
    for owner, name, reason in (
        (pixels, "resize", "cannot be resized: MemoryError"),
        (Image.Image, "convert", "damaged: MemoryError"),
        (items_module, "read_regular", "cannot be read (MemoryError)"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, fail)
            assert list(prefetch.load_images(items, RULE, workers=1, ahead=1)) == [
                UnreadableImage("00.png", reason)
            ]


def test_bicubic_images_differ_from_bilinear_ones(tmp_path: Path) -> None:
    items = write_items(tmp_path, 1)
    resampled = []
    for rule in (RULE, CropRule((GOOGLENET,), 1, "bicubic")):
        [image] = prefetch.load_images(items, rule, workers=1, ahead=1)
        assert isinstance(image, ReadyImage)
        resampled.append(image.source.pixels.numpy())
    bilinear, bicubically = resampled
    assert not np.array_equal(bilinear, bicubically)


def test_an_image_that_cannot_be_pinned_is_evaluated_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_source: object) -> object:
        raise RuntimeError("CUDA error: out of memory")

    items = write_items(tmp_path, 1)
    [expected] = prefetch.load_images(items, RULE, workers=1, ahead=1)
    monkeypatch.setattr(pixels.CropSource, "pinned", full)
    [image] = prefetch.load_images(items, RULE, workers=1, ahead=1, pinned=True)
    assert isinstance(image, ReadyImage)
    assert isinstance(expected, ReadyImage)
    assert torch.equal(image.source.pixels, expected.source.pixels)


def test_no_more_images_are_loaded_ahead_than_asked_for(tmp_path: Path) -> None:
    taken = []

    def counted() -> Iterator[tuple[int, FileItem]]:
        for item in write_items(tmp_path, 20):
            taken.append(item)
            yield item

    images = prefetch.load_images(counted(), RULE, workers=2, ahead=3)
    next(images)
    assert len(taken) <= 4
    images.close()
    assert len(taken) <= 4
    loaders = [thread for thread in threading.enumerate() if thread.name.startswith("load")]
    for thread in loaders:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in loaders)


def test_what_pillow_warns_of_stays_out_of_the_users_sight(tmp_path: Path) -> None:
    # Corrupt EXIF makes Pillow warn; with warnings as errors this would surface as an exception.
    data = encoded(picture(32, 32), "JPEG", exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\xff")
    path = tmp_path / "odd.jpg"
    path.write_bytes(data)
    with warnings.catch_warnings(record=True) as caught:
        [image] = prefetch.load_images([(0, FileItem("odd.jpg", 0, tmp_path))], RULE, workers=1, ahead=1)
    assert isinstance(image, ReadyImage)
    assert caught == []


def test_the_warning_filters_are_given_back_whatever_else_changes_them(tmp_path: Path) -> None:
    items = write_items(tmp_path, 2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        before = list(warnings.filters)
        first, second = (prefetch.load_images(items, RULE, workers=1, ahead=1) for _ in range(2))
        next(first)
        next(second)
        assert len(warnings.filters) == len(before) + 2
        first.close()
        # The other run is still at work.
        assert len(warnings.filters) == len(before) + 1
        warnings.simplefilter("default", ResourceWarning)
        changed = [entry for entry in warnings.filters if entry not in before]
        second.close()
        assert len(changed) == 2
        assert warnings.filters[1:] == before
        assert warnings.filters[0] in changed
