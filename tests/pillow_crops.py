"""The 144 crops once more, with Pillow alone and its own arithmetic: the oracle for `pixels` and `crops`."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

CROP = 224


def pillow_crops(
    image: Image.Image, resample: Image.Resampling = Image.Resampling.BILINEAR
) -> list[NDArray[np.uint8]]:
    """All 144 crops uint8 [224, 224, 3] of an image in the contract's order."""
    rgb = image.convert("RGB")
    crops: list[NDArray[np.uint8]] = []
    for scale in (256, 288, 320, 352):
        resized = _with_shorter_side(rgb, scale, resample)
        slack_x, slack_y = resized.width - scale, resized.height - scale
        for x, y in ((_half(slack_x), _half(slack_y)), (0, 0), (slack_x, slack_y)):
            square = resized.crop((x, y, x + scale, y + scale))
            for view in _six_views(square, resample):
                crops += [np.asarray(view), np.asarray(ImageOps.mirror(view))]
    return crops


def _with_shorter_side(image: Image.Image, scale: int, resample: Image.Resampling) -> Image.Image:
    if image.width < image.height:
        return image.resize((scale, int(scale * image.height / image.width)), resample)
    return image.resize((int(scale * image.width / image.height), scale), resample)


def _six_views(square: Image.Image, resample: Image.Resampling) -> list[Image.Image]:
    far, middle = square.width - CROP, _half(square.width - CROP)
    corners = ((middle, middle), (0, 0), (far, 0), (0, far), (far, far))
    views = [square.crop((x, y, x + CROP, y + CROP)) for x, y in corners]
    return [*views, square.resize((CROP, CROP), resample)]


def _half(slack: int) -> int:
    """Half of it; where that falls between two integers, the even one."""
    below = slack // 2
    return below + 1 if slack % 2 == 1 and below % 2 == 1 else below
