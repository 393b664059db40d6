from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ensemble_eval.demo_data import pictures
from ensemble_eval.demo_data.classes import CLASS_NAMES
from ensemble_eval.demo_data.objects import object_stencil
from ensemble_eval.demo_data.pictures import (
    PIXEL_STREAM,
    SEED_LIMIT,
    SPLITS,
    Split,
    draw_occluders,
    draw_picture,
    generator_of,
    label_of,
)
from ensemble_eval.demo_data.scene import DIFFICULTY, Placement, Scene, plan_scene

_SCENES = [
    plan_scene(label_of("train", 7, index), generator_of("train", 7, PIXEL_STREAM, index)) for index in range(400)
]


def _covered_pixels(placement: Placement, scene: Scene) -> float:
    rng = np.random.Generator(np.random.PCG64(0))
    stencil = object_stencil(placement, scene.size, warp=0.0, rng=rng)
    return 0.0 if stencil is None else np.asarray(stencil.mask).sum() / 255.0


def test_a_picture_is_the_same_whenever_it_is_drawn() -> None:
    first = draw_picture("val", 3, 11)
    draw_picture("val", 3, 12)
    again = draw_picture("val", 3, 11)
    assert first == again
    assert first.image.tobytes() == again.image.tobytes()


def test_split_seed_and_index_each_change_the_picture() -> None:
    drawn = [draw_picture(*key) for key in (("train", 3, 5), ("val", 3, 5), ("train", 4, 5), ("train", 3, 6))]
    assert len({picture.image.tobytes() for picture in drawn}) == 4


def test_the_drawing_has_not_changed_under_the_same_generator_version() -> None:
    """Coarse on purpose, so that another Pillow's rounding passes; if it fails, raise GENERATOR_VERSION."""
    picture = draw_picture("val", 0, 0)
    coarse = np.asarray(picture.image.convert("L").resize((4, 3), Image.Resampling.BOX), dtype=int)
    expected = np.array([[123, 120, 120, 104], [128, 131, 121, 111], [122, 123, 120, 118]])
    assert (picture.class_name, picture.image.size, picture.jpeg_quality) == ("star-stripes-plum", (375, 500), 58)
    assert np.abs(coarse - expected).max() <= 2, coarse.tolist()


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("images", [1, 63, 64, 65, 200])
def test_labels_are_balanced_within_one_however_many_are_drawn(split: Split, images: int) -> None:
    counts = Counter(label_of(split, 5, index) for index in range(images))
    per_class = [counts[label] for label in range(len(CLASS_NAMES))]
    assert max(per_class) - min(per_class) <= 1
    assert sum(per_class) == images


def test_the_order_of_the_labels_differs_from_block_to_block() -> None:
    first, second = ([label_of("train", 5, block * 64 + i) for i in range(64)] for block in (0, 1))
    assert first != second
    assert sorted(first) == sorted(second) == list(range(64))


def test_the_scene_is_of_the_labels_class_and_the_distractors_are_not() -> None:
    for index, scene in enumerate(_SCENES):
        name = CLASS_NAMES[label_of("train", 7, index)]
        assert scene.subject.cues.name == name
        assert name not in {distractor.cues.name for distractor in scene.distractors}


def test_the_subject_shows_more_than_any_distractor_even_where_most_hidden() -> None:
    for scene in _SCENES[:150]:
        least_visible = (1.0 - DIFFICULTY.hidden_share_limit) * _covered_pixels(scene.subject, scene)
        assert all(_covered_pixels(d, scene) < least_visible for d in scene.distractors)


def test_sizes_are_landscape_portrait_square_and_sometimes_tiny() -> None:
    shapes = Counter(np.sign(scene.size[0] - scene.size[1]) for scene in _SCENES)
    assert shapes[1] > shapes[-1] > shapes[0] > 0
    assert 0 < sum(min(scene.size) < 256 for scene in _SCENES) < 40
    assert Counter(scene.size for scene in _SCENES).most_common(1)[0][0] == (500, 375)


def test_a_few_pictures_are_grey_and_drawn_in_mode_l() -> None:
    grey = [index for index, scene in enumerate(_SCENES) if scene.grey]
    assert 2 <= len(grey) <= 20
    assert draw_picture("train", 7, grey[0]).image.mode == "L"
    assert draw_picture("train", 7, next(i for i, s in enumerate(_SCENES) if not s.grey)).image.mode == "RGB"


def test_subjects_lie_anywhere_and_often_outside_the_centre_square() -> None:
    offsets = np.array([np.divide(s.subject.centre, s.size) - 0.5 for s in _SCENES])
    assert np.abs(offsets.mean(axis=0)).max() < 0.05
    outside = [
        np.abs(np.subtract(s.subject.centre, np.divide(s.size, 2))).max() + s.subject.diameter / 2
        > 0.4375 * min(s.size)
        for s in _SCENES
    ]
    assert 0.4 < np.mean(outside) < 0.98


def test_subjects_have_every_size_between_the_planned_ones() -> None:
    low, _, high = DIFFICULTY.subject_diameter
    shares = np.array([scene.subject.diameter / min(scene.size) for scene in _SCENES])
    assert low <= shares.min() < low + 0.1
    assert high - 0.1 < shares.max() <= high


@pytest.mark.parametrize("limit", [0.0, 0.2, 0.5])
def test_occluders_hide_a_part_of_the_subject_but_no_more_than_the_limit(
    limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = _SCENES[0]
    rng = np.random.Generator(np.random.PCG64(0))
    stencil = object_stencil(scene.subject, scene.size, warp=0.0, rng=rng)
    assert stencil is not None
    untouched = (1, 2, 3)
    canvas = Image.new("RGB", scene.size, untouched)
    difficulty = replace(DIFFICULTY, occluders=(9, 9), hidden_share_limit=limit)
    monkeypatch.setattr(pictures, "DIFFICULTY", difficulty)
    draw_occluders(canvas, scene.subject, stencil, rng)
    changed = (np.asarray(canvas.crop(stencil.box)) != np.array(untouched)).any(axis=2)
    hidden_share = changed[np.asarray(stencil.mask) == 255].mean()
    assert limit / 2 <= hidden_share <= limit + 0.05  # edges count whole here


@pytest.mark.parametrize(("seed", "index"), [(-1, 0), (SEED_LIMIT, 0), (0, -1), (0, SEED_LIMIT * 64)])
def test_a_seed_or_an_index_out_of_range_is_refused(seed: int, index: int) -> None:
    with pytest.raises(ValueError, match="must lie between 0 and 2"):
        draw_picture("train", seed, index)
