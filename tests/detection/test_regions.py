from collections.abc import Sequence

import numpy as np
import pytest
import torch
from drawn_boxes import CLASSES, colour_ensemble
from PIL import Image
from torch import Tensor

from ensemble_eval.detection.regions import CONTEXT_PIXELS, object_classes, warp_regions
from ensemble_eval.members.ensemble import Ensemble

MEAN = (124, 116, 104)


def picture(width: int, height: int) -> Image.Image:
    """Smooth colours, so that resampling by two libraries may be compared."""
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 11)], axis=2)
    return Image.fromarray((127.5 + 120 * waves).astype(np.uint8))


def by_pillow(image: Image.Image, box: Sequence[float]) -> Image.Image:
    """The image on a canvas of the mean colour, the widened box cut out of it, and resized as a whole."""
    left, top, right, bottom = box
    grown_x, grown_y = ((high - low) / 2 * (224 / 192 - 1) for low, high in ((left, right), (top, bottom)))
    edges = [round(edge) for edge in (left - grown_x, top - grown_y, right + grown_x, bottom + grown_y)]
    canvas = Image.new("RGB", (edges[2] - edges[0], edges[3] - edges[1]), MEAN)
    canvas.paste(image, (-edges[0], -edges[1]))
    return canvas.resize((224, 224), Image.Resampling.BILINEAR)


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


INSIDE = [(60, 50, 252, 242), (40, 90, 136, 300), (100, 20, 310, 60), (70, 70, 94, 94)]
AT_BORDERS = [(0, 0, 192, 192), (208, 148, 400, 340), (0, 0, 400, 340), (390, 0, 400, 340)]


@pytest.mark.parametrize("box", INSIDE + AT_BORDERS)
def test_a_region_is_pillows(box: tuple[int, ...]) -> None:
    image = picture(400, 340)
    (ours,) = warp_regions(tensor(image), np.array([box], float))
    difference = (ours.int() - tensor(by_pillow(image, box)).int()).abs()
    assert difference.max() <= 2
    assert difference.float().mean() < 0.5


def test_what_lies_beyond_the_image_has_the_mean_colour() -> None:
    (region,) = warp_regions(tensor(picture(400, 340)), np.array([[0.0, 0.0, 96.0, 96.0]]))
    beyond = region[:, : CONTEXT_PIXELS - 2, : CONTEXT_PIXELS - 2]
    assert (beyond == torch.tensor(MEAN, dtype=torch.uint8)[:, None, None]).all()


def test_the_box_itself_fills_all_but_the_context() -> None:
    image = np.zeros((400, 400, 3), np.uint8)
    image[100:292, 110:302] = 255
    (region,) = warp_regions(torch.from_numpy(image).permute(2, 0, 1), np.array([[110.0, 100, 302, 292]]))
    rows, columns = (np.flatnonzero((region[0] > 127).numpy().any(axis=axis)) for axis in (1, 0))
    expected = (CONTEXT_PIXELS, 223 - CONTEXT_PIXELS)
    assert (rows[0], rows[-1]) == (columns[0], columns[-1]) == expected


@pytest.mark.parametrize(
    "box", [(0.0, 0.0, 1.0, 1.0), (399.0, 339.0, 400.0, 340.0), (5.2, 5.4, 5.6, 300.0), (0.0, 339.5, 400.0, 340.0)]
)
def test_the_smallest_and_the_thinnest_boxes_have_a_region(box: tuple[float, ...]) -> None:
    (region,) = warp_regions(tensor(picture(400, 340)), np.array([box]))
    assert region.shape == (3, 224, 224)


def test_no_boxes_are_no_regions() -> None:
    assert warp_regions(tensor(picture(40, 30)), np.zeros((0, 4))).shape == (0, 3, 224, 224)


def test_the_classes_of_objects_leave_out_no_object_and_those_of_imagenet_are_its_wnids() -> None:
    ensemble = colour_ensemble()
    assert object_classes(ensemble) == CLASSES
    names = object_classes(Ensemble(ensemble.members, "imagenet-1k", "plain"))
    assert (len(names), names[0], names[-1]) == (1000, "n01440764", "n15075141")
