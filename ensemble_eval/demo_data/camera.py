"""What a camera does to a scene: light, contrast, focus and sensor noise."""

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from ensemble_eval.demo_data.difficulty import Difficulty

_BLUR_REFERENCE_WIDTH = 500


def photograph(canvas: Image.Image, grey: bool, difficulty: Difficulty, rng: np.random.Generator) -> Image.Image:
    """The painted RGB scene as taken: of the same size, mode RGB, or L where grey."""
    if grey:
        canvas = canvas.convert("L")
    lit = ImageChops.multiply(canvas, _light(canvas.size, difficulty, rng).convert(canvas.mode))
    focused = _focus(lit, difficulty, rng)
    return _expose(focused, difficulty, rng)


def _light(size: tuple[int, int], difficulty: Difficulty, rng: np.random.Generator) -> Image.Image:
    fall = rng.uniform(*difficulty.light_fall)
    corners = rng.random((2, 2))
    corners = (corners - corners.min()) / (corners.max() - corners.min())
    levels = np.rint(255.0 * (1.0 - fall * corners)).astype(np.uint8)
    return Image.fromarray(levels).resize(size, Image.Resampling.BILINEAR)


def _focus(image: Image.Image, difficulty: Difficulty, rng: np.random.Generator) -> Image.Image:
    radius = rng.uniform(*difficulty.blur_radius) * max(image.size) / _BLUR_REFERENCE_WIDTH
    if rng.random() >= difficulty.blurred_share:
        return image
    return image.filter(ImageFilter.GaussianBlur(radius))


def _expose(image: Image.Image, difficulty: Difficulty, rng: np.random.Generator) -> Image.Image:
    """Contrast and brightness, then noise: the same for all channels, as most of a sensor's is."""
    contrast = rng.uniform(*difficulty.contrast)
    shift = 128.0 * (1.0 - contrast) + rng.uniform(-1.0, 1.0) * difficulty.brightness_shift
    deviation = rng.uniform(*difficulty.noise_deviation)
    noise = rng.standard_normal((image.height, image.width), dtype=np.float32)
    noise *= np.float32(deviation)
    noise += np.float32(shift + 0.5)
    levels = np.asarray(image, dtype=np.float32) * np.float32(contrast)
    levels += noise[..., None] if levels.ndim == 3 else noise
    return Image.fromarray(levels.clip(0.0, 255.0).astype(np.uint8))
