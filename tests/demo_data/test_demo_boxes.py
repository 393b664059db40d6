import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensemble_eval.demo_data.classes import CLASS_NAMES
from ensemble_eval.demo_data.objects import Layer, Stencil
from ensemble_eval.demo_data.pictures import PIXEL_STREAM, draw_picture, generator_of, label_of
from ensemble_eval.demo_data.scene import plan_scene
from ensemble_eval.demo_data.writing import DIFFICULT_BELOW, draw_dataset, visible_objects


def _square(left: int, top: int, side: int, class_name: str | None) -> Layer:
    box = (left, top, left + side, top + side)
    return Layer(Stencil(box, Image.new("L", (side, side), 255), np.eye(2), (0.0, 0.0)), class_name)


def test_a_later_layer_hides_an_earlier_one_and_boxes_go_around_what_is_left() -> None:
    below, above = _square(10, 10, 20, "a"), _square(20, 5, 30, "b")
    first, second = visible_objects([below, above], (100, 60))
    assert (first.class_name, first.box, first.pixels) == ("a", (10, 10, 20, 30), 200)
    assert (second.class_name, second.box, second.pixels) == ("b", (20, 5, 50, 35), 900)
    assert (first.visible_share, second.visible_share) == (0.5, 1.0)


def test_what_is_hidden_whole_is_left_out_and_what_is_nearly_so_is_difficult() -> None:
    cover, whole, nearly = _square(0, 0, 20, None), _square(5, 5, 10, "whole"), _square(10, 10, 20, "nearly")
    found = visible_objects([whole, nearly, cover], (40, 40))
    assert [(each.class_name, each.visible_share < DIFFICULT_BELOW) for each in found] == [("nearly", False)]
    more = visible_objects([nearly, _square(10, 10, 18, None)], (40, 40))
    assert [(each.pixels, each.visible_share < DIFFICULT_BELOW) for each in more] == [(400 - 18 * 18, True)]


def test_pixels_that_an_object_covers_by_less_than_half_are_not_its_own() -> None:
    mask = Image.fromarray(np.array([[127, 128, 255]], dtype=np.uint8))
    (found,) = visible_objects([Layer(Stencil((4, 7, 7, 8), mask, np.eye(2), (0.0, 0.0)), "a")], (10, 10))
    assert (found.box, found.pixels) == ((5, 7, 7, 8), 2)


def test_a_picture_has_its_subject_and_no_more_objects_than_its_scene() -> None:
    for index in range(12):
        picture, rng = draw_picture("val", 4, index), generator_of("val", 4, PIXEL_STREAM, index)
        scene = plan_scene(label_of("val", 4, index), rng)
        found = visible_objects(picture.layers, picture.image.size)
        planned = [*(each.cues.name for each in scene.distractors), scene.subject.cues.name]
        names = [each.class_name for each in found]
        assert names[-1] == picture.class_name
        assert all(names.count(name) <= planned.count(name) for name in names)
        for each in found:
            left, top, right, bottom = each.box
            assert 0 <= left < right <= scene.size[0]
            assert 0 <= top < bottom <= scene.size[1]
            assert each.pixels <= (right - left) * (bottom - top)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("boxes") / "val"
    draw_dataset(directory, "val", images=6, seed=4, workers=1, boxes=True)
    return directory


def test_the_file_is_cocos_and_names_every_picture(drawn: Path) -> None:
    boxes = json.loads((drawn / "boxes.json").read_text())
    assert [each["file_name"] for each in boxes["images"]] == [
        f"{draw_picture('val', 4, index).class_name}/val_{index:08d}.JPEG" for index in range(6)
    ]
    for each in boxes["images"]:
        with Image.open(drawn / each["file_name"]) as image:
            assert image.size == (each["width"], each["height"])
    assert [each["name"] for each in boxes["categories"]] == list(CLASS_NAMES)
    picture = draw_picture("val", 4, 0)
    objects = visible_objects(picture.layers, picture.image.size)
    written = [each for each in boxes["annotations"] if each["image_id"] == 1]
    assert [CLASS_NAMES[each["category_id"] - 1] for each in written] == [each.class_name for each in objects]
    for entry, each in zip(written, objects, strict=True):
        left, top, width, height = entry["bbox"]
        assert (left, top, left + width, top + height) == each.box
        assert (entry["area"], entry["difficult"]) == (each.pixels, int(each.visible_share < DIFFICULT_BELOW))


def test_boxes_of_pictures_that_were_drawn_before_are_the_same_and_the_pictures_stay(
    drawn: Path, tmp_path: Path
) -> None:
    draw_dataset(tmp_path, "val", images=6, seed=4, workers=1)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.JPEG")}
    assert not (tmp_path / "boxes.json").exists()
    again = draw_dataset(tmp_path, "val", images=6, seed=4, workers=1, boxes=True)
    assert (again.found, again.drawn) == (6, 0)
    assert (tmp_path / "boxes.json").read_bytes() == (drawn / "boxes.json").read_bytes()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.JPEG")} == before
