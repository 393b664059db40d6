import functools
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ensemble_eval.datasets.boxes import Boxes
from ensemble_eval.demo_data.pictures import draw_picture
from ensemble_eval.detection.selective_search import (
    DOUBLED,
    RCNN,
    Setting,
    require_opencv,
    search_images,
    selective_search,
)
from ensemble_eval.errors import MissingExtraError

Image = NDArray[np.uint8]


@pytest.mark.parametrize("absent", ["cv2", "cv2.ximgproc"])
def test_without_opencvs_extra_modules_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    # Another test may have imported it.
    for name in ("cv2.ximgproc", "cv2.ximgproc.segmentation"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(MissingExtraError, match=r"extra modules, which .*; run: pip install .*\[detection\]"):
        require_opencv()


def test_the_settings_are_r_cnns_and_twice_its_superpixels() -> None:
    assert Setting(superpixel_size=150, increment=150, sigma=0.8) == RCNN
    assert Setting(superpixel_size=300, increment=300, sigma=0.8) == DOUBLED


def search_or_die(image: Image, _: Setting) -> Boxes:
    """Stands in for OpenCV where it is fragile: the first pixel says what happens."""
    if image[0, 0, 0] == 1:
        os.abort()
    if image[0, 0, 0] == 2:
        raise ValueError("two")
    return np.array([[0.0, 0.0, *image.shape[1::-1]]])


def plain(first: int, width: int) -> Image:
    return np.full((5, width, 3), first, np.uint8)


@pytest.mark.processes
def test_an_image_that_kills_its_process_is_named_and_the_others_go_on() -> None:
    images = [(f"{n}", plain(first, 10 + n)) for n, first in enumerate([0, 1, 0, 2, 1, 0, 0])]
    found = list(search_images(images, RCNN, 2, search_or_die))
    assert [image for image, _ in found] == [image for image, _ in images]
    reasons = [boxes if isinstance(boxes, str) else boxes[0, 2] for _, boxes in found]
    died, failed = "the process that searched it died", "selective search failed: two"
    assert reasons == [10.0, died, 12.0, failed, died, 15.0, 16.0]


def search_and_be_killed_once(image: Image, _: Setting, killed: Path) -> Boxes:
    """Stands in for a process that somebody else kills."""
    if not killed.exists():
        killed.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return np.array([[0.0, 0.0, *image.shape[1::-1]]])


@pytest.mark.processes
def test_an_image_whose_process_is_killed_is_searched_again(tmp_path: Path) -> None:
    search = functools.partial(search_and_be_killed_once, killed=tmp_path / "killed")
    found = dict(search_images([("a", plain(0, 10)), ("b", plain(0, 11))], RCNN, 1, search))
    assert {image: np.asarray(boxes)[0, 2] for image, boxes in found.items()} == {"a": 10.0, "b": 11.0}


@pytest.mark.processes
def test_a_search_that_is_left_early_leaves_no_process() -> None:
    found = search_images(((f"{n}", plain(0, 9)) for n in range(10**9)), RCNN, 1, search_or_die)
    assert next(found)[0] == "0"
    found.close()
    assert multiprocessing.active_children() == []


def picture(index: int) -> Image:
    return np.asarray(draw_picture("val", 11, index).image.convert("RGB"))


@pytest.mark.slow
def test_larger_superpixels_halve_the_proposals_which_lie_in_the_image_and_are_always_the_same() -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    image = picture(2)[::2, ::2].copy()
    fine, coarse = (selective_search(image, setting) for setting in (RCNN, DOUBLED))
    height, width, _ = image.shape
    assert fine.min() >= 0
    assert (fine[:, 2] <= width).all()
    assert (fine[:, 3] <= height).all()
    assert (fine[:, :2] < fine[:, 2:]).all()
    np.testing.assert_array_equal(selective_search(image, DOUBLED), coarse)
    assert 0.4 < len(coarse) / len(fine) < 0.65


def test_opencv_is_asked_for_before_anything_is_started() -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    require_opencv()
