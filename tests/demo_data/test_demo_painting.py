import colorsys

import numpy as np
import pytest
from PIL import Image

from ensemble_eval.demo_data.classes import ClassCues
from ensemble_eval.demo_data.objects import PALETTES, Surface, draw_two_colours, object_stencil, paint
from ensemble_eval.demo_data.scene import Placement
from ensemble_eval.demo_data.shapes import SHAPES
from ensemble_eval.demo_data.textures import TEXTURES, Grid


def _rng() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(0))


def _placement(shape: str, centre: tuple[float, float], diameter: float = 80.0) -> Placement:
    return Placement(ClassCues(shape, "stripes", "ember"), centre, diameter, rotation=0.7, stretch=1.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_outline_fills_the_unit_circle_and_not_more(shape: str) -> None:
    radius = np.linalg.norm(np.concatenate(SHAPES[shape].solids), axis=1)
    assert radius.max() == pytest.approx(1.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_drawn_object_covers_a_visible_part_of_its_circle(shape: str) -> None:
    stencil = object_stencil(_placement(shape, (50.0, 50.0)), (100, 100), warp=0.0, rng=_rng())
    assert stencil is not None
    covered = np.asarray(stencil.mask).sum() / 255.0
    assert 0.2 < covered / (np.pi * 40.0**2) < 0.95


def test_a_ring_has_a_hole_and_soft_edges() -> None:
    stencil = object_stencil(_placement("ring", (50.0, 50.0)), (100, 100), warp=0.0, rng=_rng())
    assert stencil is not None
    mask = np.asarray(stencil.mask)
    assert mask[mask.shape[0] // 2, mask.shape[1] // 2] == 0
    assert mask[mask.shape[0] // 2, 10] == 255
    assert ((mask > 0) & (mask < 255)).any()


def test_the_border_cuts_an_object_and_nothing_is_left_of_one_far_outside() -> None:
    cut = object_stencil(_placement("heart", (0.0, 50.0)), (100, 100), warp=0.0, rng=_rng())
    assert cut is not None
    assert cut.box[0] == 0
    assert cut.mask.size == (cut.box[2] - cut.box[0], cut.box[3] - cut.box[1])
    assert object_stencil(_placement("heart", (300.0, 50.0)), (100, 100), warp=0.0, rng=_rng()) is None


def test_paint_uses_both_colours_inside_the_stencil_and_leaves_the_rest() -> None:
    canvas = Image.new("RGB", (100, 100), (0, 0, 255))
    stencil = object_stencil(_placement("ring", (50.0, 50.0)), (100, 100), warp=0.0, rng=_rng())
    assert stencil is not None
    paint(canvas, stencil, Surface("checker", 3.0, ((255, 0, 0), (0, 255, 0))), _rng())
    colours = {colour for _, colour in canvas.getcolors(maxcolors=10_000) or []}
    assert {(255, 0, 0), (0, 255, 0), (0, 0, 255)} <= colours
    assert canvas.getpixel((50, 50)) == (0, 0, 255)
    assert canvas.getpixel((2, 2)) == (0, 0, 255)


@pytest.mark.parametrize("texture", TEXTURES)
def test_a_texture_is_a_single_precision_field_between_0_and_1_that_spans_most_of_it(texture: str) -> None:
    v, u = np.meshgrid(np.linspace(-3, 3, 90), np.linspace(-3, 3, 70), indexing="ij")
    turbulence = _rng().random(u.shape)
    field = TEXTURES[texture](Grid(*(a.astype(np.float32) for a in (u, v, turbulence))))
    assert field.shape == (90, 70)
    assert field.dtype == np.float32
    assert field.min() >= 0.0
    assert field.max() <= 1.0
    assert field.max() - field.min() > 0.8


@pytest.mark.parametrize("palette", PALETTES)
def test_a_palette_draws_a_light_and_a_dark_colour(palette: str) -> None:
    rng = _rng()
    for _ in range(20):
        light, dark = draw_two_colours(PALETTES[palette], 12.0, rng)
        assert max(light) > max(dark)


def _light_hues(palette: str, draws: int) -> list[float]:
    rng = _rng()
    colours = [draw_two_colours(PALETTES[palette], 12.0, rng)[0] for _ in range(draws)]
    return [360.0 * colorsys.rgb_to_hsv(*(channel / 255.0 for channel in colour))[0] for colour in colours]


def test_neighbouring_palettes_overlap_in_hue() -> None:
    ocean, dusk = _light_hues("ocean", 200), _light_hues("dusk", 200)
    assert sum(ocean) < sum(dusk)
    assert max(ocean) > min(dusk)
