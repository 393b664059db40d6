import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble_eval.datasets.boxes import class_names_in, coco_ids, read_box_table, read_boxes
from ensemble_eval.demo_data.classes import CLASS_NAMES
from ensemble_eval.demo_data.writing import draw_dataset
from ensemble_eval.errors import InputError

CLASSES = ["cat", "dog"]


def coco(**changes: Any) -> dict[str, Any]:
    content = {
        "images": [
            {"id": 7, "file_name": "a/1.jpg", "width": 100, "height": 80},
            {"id": 9, "file_name": "a/2.jpg", "width": 50, "height": 50},
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [
            {"image_id": 7, "category_id": 3, "bbox": [10, 20, 30, 40], "iscrowd": 0},
            {"image_id": 7, "category_id": 1, "bbox": [0, 0, 100.5, 80], "iscrowd": 1},
        ],
    }
    return {**content, **changes}


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def xml(source: str = "", **box: object) -> str:
    corners = {"xmin": 10, "ymin": 20, "xmax": 39, "ymax": 59, **box}
    corner_tags = "".join(f"<{name}>{value}</{name}>" for name, value in corners.items())
    return (
        f"<annotation><filename>1</filename><source><annotation>{source}</annotation></source>"
        "<size><width>100</width><height>80</height></size>"
        f"<object><name>dog</name><difficult>1</difficult><bndbox>{corner_tags}</bndbox></object></annotation>"
    )


def test_cocos_boxes_become_edges_and_its_crowds_are_ignored(tmp_path: Path) -> None:
    found = read_boxes(write(tmp_path / "boxes.json", coco()), CLASSES, ["a/1.jpg", "a/2.jpg"])
    assert found["a/1.jpg"].boxes.tolist() == [[10, 20, 40, 60], [0, 0, 100.5, 80]]
    assert found["a/1.jpg"].classes.tolist() == [1, 0]
    assert found["a/1.jpg"].ignored.tolist() == found["a/1.jpg"].crowd.tolist() == [False, True]
    assert found["a/2.jpg"].boxes.shape == (0, 4)


@pytest.mark.parametrize(("source", "first"), [("PASCAL VOC2007", 1), ("ILSVRC_2012", 0)])
def test_the_last_pixel_of_an_xml_box_lies_in_it_and_voc_counts_from_one(
    tmp_path: Path, source: str, first: int
) -> None:
    write(tmp_path / "1.xml", xml(source))
    found = read_boxes(tmp_path, CLASSES, ["deep/down/1.JPEG"])["deep/down/1.JPEG"]
    assert found.boxes.tolist() == [[10 - first, 20 - first, 40 - first, 60 - first]]
    assert (found.ignored.tolist(), found.crowd.tolist()) == ([True], [False])


def test_images_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for folder, right in (("a", 39), ("b", 49)):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "1.xml", xml(xmax=right))
    found = read_boxes(tmp_path, CLASSES, ["a/1.JPEG", "b/1.JPEG"])
    assert [found[image].boxes[0, 2] for image in ("a/1.JPEG", "b/1.JPEG")] == [40, 50]
    with pytest.raises(InputError, match=r"has no annotation for 1 of 1 images \(c/1\.JPEG\)"):
        read_boxes(tmp_path, CLASSES, ["c/1.JPEG"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"annotations": [{"image_id": 7, "category_id": 3, "bbox": [5, 5, 0, 9]}]},
            "a/1.jpg has a box of no area",
        ),
        ({"annotations": [{"image_id": 7, "category_id": 3, "bbox": [5, 5, 9, 0]}]}, "a box of no area"),
        (
            {"annotations": [{"image_id": 7, "category_id": 3, "bbox": [5, 5, float("nan"), 9]}]},
            "a box of no area",
        ),
        ({"annotations": [{"image_id": 9, "category_id": 3, "bbox": [5, 5, 60, 9]}]}, "outside its 50×50 pixels"),
        ({"annotations": [{"image_id": 9, "category_id": 3, "bbox": [-2, 5, 9, 9]}]}, "outside its 50×50 pixels"),
        ({"annotations": [{"image_id": 8, "category_id": 3, "bbox": [5, 5, 9, 9]}]}, "not in COCO's format"),
        ({"annotations": [{"image_id": 7, "category_id": 2, "bbox": [5, 5, 9, 9]}]}, "not in COCO's format"),
        ({"annotations": [{"image_id": 7, "category_id": 3, "bbox": [5, 5, 9]}]}, "not in COCO's format"),
        ({"annotations": None}, "not in COCO's format"),
        (
            {"categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "cow"}]},
            "has an object of 'cow', which is none",
        ),
        (
            {"images": [{"id": n, "file_name": "1.jpg", "width": 1e3, "height": 1e3} for n in (7, 9)]},
            "image twice",
        ),
    ],
)
def test_a_wrong_coco_file_is_refused_in_a_sentence(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    path = write(tmp_path / "boxes.json", coco(**changes))
    with pytest.raises(InputError, match=sentence):
        read_boxes(path, CLASSES, ["a/1.jpg"])


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "[]", "3"])
def test_a_file_that_is_no_annotation_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match=r"is not JSON|is not in COCO's format"):
        read_boxes(write(tmp_path / "boxes.json", content), CLASSES, ["a/1.jpg"])
    with pytest.raises(InputError, match="cannot be read"):
        read_boxes(tmp_path / "none.json", CLASSES, ["a/1.jpg"])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (xml(xmax=10, xmin=30), "a box of no area"),
        (xml(xmax=120), "outside its 100×80 pixels"),
        (xml(xmax="wide"), "is not an annotation of VOC or ILSVRC"),
        (
            xml().replace("<size>", "<sizes>").replace("</size>", "</sizes>"),
            "is not an annotation of VOC or ILSVRC",
        ),
        ("<annotation>", "is not XML"),
        ("<html/>", "has <html> where"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "declares a document type"),
        ("<!DOCTYPE a><annotation/>", "declares a document type"),
    ],
)
def test_a_wrong_xml_file_is_refused_in_a_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    write(tmp_path / "1.xml", content)
    with pytest.raises(InputError, match=sentence):
        read_boxes(tmp_path, CLASSES, ["1.JPEG"])


def test_classes_are_cocos_categories_by_their_ids_or_those_of_xml_files_by_name(tmp_path: Path) -> None:
    categories = [{"id": 10, "name": "cat"}, {"id": 9, "name": "dog"}]
    assert class_names_in(write(tmp_path / "boxes.json", coco(categories=categories))) == ("dog", "cat")
    write(tmp_path / "1.xml", xml())
    write(tmp_path / "2.xml", xml().replace("dog", "cat"))
    assert class_names_in(tmp_path) == ("cat", "dog")


def test_results_speak_of_images_and_classes_by_cocos_ids_or_count_from_one(tmp_path: Path) -> None:
    path, images = write(tmp_path / "boxes.json", coco()), ["a/2.jpg", "a/1.jpg"]
    assert coco_ids(path, CLASSES, images) == ({"a/2.jpg": 9, "a/1.jpg": 7}, {"cat": 1, "dog": 3})
    for without_ids in (None, tmp_path):
        numbers = coco_ids(without_ids, CLASSES, images)
        assert numbers == ({"a/1.jpg": 1, "a/2.jpg": 2}, {"cat": 1, "dog": 2})


def test_a_folder_without_xml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no XML files"):
        read_boxes(tmp_path, CLASSES, ["1.JPEG"])


def test_the_boxes_of_drawn_pictures_are_read(tmp_path: Path) -> None:
    draw_dataset(tmp_path, "val", images=3, seed=4, workers=1, boxes=True)
    images = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*.JPEG"))
    found = read_boxes(tmp_path / "boxes.json", CLASS_NAMES, images)
    for image in images:
        assert CLASS_NAMES.index(image.split("/")[0]) in found[image].classes
        assert np.all(found[image].boxes[:, 2:] > found[image].boxes[:, :2])


def test_a_table_gives_the_boxes_of_each_image_the_best_first(tmp_path: Path) -> None:
    table = "left,image,top,right,bottom,score\n1,a,2,3,4.5,0.1\n5,a,6,7,8,0.9\n0,b,0,1,1,0.5\n"
    found = read_box_table(write(tmp_path / "boxes.csv", table), ["a", "b", "c"])
    boxes = {image: boxes.tolist() for image, (boxes, _) in found.items()}
    assert boxes == {"a": [[5, 6, 7, 8], [1, 2, 3, 4.5]], "b": [[0, 0, 1, 1]], "c": []}
    assert found["a"][1].tolist() == [0.9, 0.1]
    unscored = write(tmp_path / "unscored.csv", "image,left,top,right,bottom\na,1,2,3,4\na,0,0,1,1\n")
    [(in_order, scores)] = read_box_table(unscored, ["a"]).values()
    assert (in_order.tolist(), scores.tolist()) == ([[1, 2, 3, 4], [0, 0, 1, 1]], [0, 0])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image,left,top,right\na,1,2,3\n", "has no column bottom"),
        ("image,left,top,right,bottom\nnowhere.png,1,2,3,4\n", "not in the data set: nowhere.png"),
        (
            "image,left,top,right,bottom\npictures/0.png,1,2,1,4\n",
            r"the box 1 \(pictures/0.png\) is not finite or",
        ),
        ("image,left,top,right,bottom\npictures/0.png,1,2,inf,4\n", "is not finite or has no area"),
        ("image,left,top,right,bottom\npictures/0.png,1,2,x,4\n", "has a box that is no number"),
        ("image,left,top,right,bottom\npictures/0.png,1,2,,4\n", "is not finite or has no area"),
    ],
)
def test_a_file_of_boxes_that_cannot_be_used_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_box_table(tmp_path / "boxes.csv", ["pictures/0.png"])
