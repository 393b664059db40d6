"""Parts of a data set: a blacklist, the first images, a sample, the classes of its own."""

import json
from pathlib import Path
from typing import Any

import dataset_layouts as layouts
import pytest
from dataset_layouts import CLASSES, Given, Labelled, validation_images

from ensemble_eval.datasets.opening import open_dataset
from ensemble_eval.datasets.scope import Scope
from ensemble_eval.errors import InputError


@pytest.fixture(scope="module")
def images() -> list[Labelled]:
    return validation_images([b"%d" % number for number in range(12)])


@pytest.fixture(scope="module")
def given(images: list[Labelled], tmp_path_factory: pytest.TempPathFactory) -> Given:
    return layouts.table(tmp_path_factory.mktemp("data"), images)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0\n", "blacklist.txt holds 0; places run from 1 to 50000"),
        ("50001\n", "holds 50001; places run from 1 to 50000"),
        ("1\nx\n", "line 2: 'x' is no whole number"),
        ("", "is empty"),
        ("7\n7\n", "holds a place twice"),
        ("".join(f"{number}\n" for number in range(1, 13)), "all images are on the blacklist"),
    ],
)
def test_a_blacklist_that_is_none_is_refused(tmp_path: Path, given: Given, text: str, sentence: str) -> None:
    (tmp_path / "blacklist.txt").write_text(text)
    with pytest.raises(InputError, match=sentence):
        open_dataset(given.root, CLASSES, given.labels, blacklist=tmp_path / "blacklist.txt")


@pytest.mark.parametrize("part", [{"blacklist": "blacklist.txt"}, {"limit": 1}, {"sample": 1}])
def test_the_classes_of_a_data_set_are_those_of_all_its_images(tmp_path: Path, part: dict[str, Any]) -> None:
    given = layouts.class_folders(tmp_path / "data", validation_images([b"a", b"b", b"c"]))
    (tmp_path / "blacklist.txt").write_text("2\n")
    if "blacklist" in part:
        part = {"blacklist": tmp_path / "blacklist.txt"}
    dataset = open_dataset(given.root, CLASSES, subset_classes="dataset", **part)
    assert dataset.scope.counted_classes == (2, 3, 6)
    assert len(dataset.items) < 3


def test_a_blacklist_needs_numbers_in_the_names(tmp_path: Path) -> None:
    given = layouts.class_folders(tmp_path, [Labelled("a.png", 0, b"x")])
    (tmp_path / "blacklist.txt").write_text("1\n")
    with pytest.raises(InputError, match=r"1 images have none \(n01440764/a.png\); leave `blacklist` out"):
        open_dataset(given.root, CLASSES, blacklist=tmp_path / "blacklist.txt")


def test_a_larger_sample_of_a_seed_holds_every_smaller_one(given: Given) -> None:
    def drawn(sample: int, seed: int) -> list[str]:
        dataset = open_dataset(given.root, CLASSES, given.labels, sample=sample, seed=seed)
        assert dataset.scope.part == f"{sample} of 12 images, drawn with the seed {seed}"
        return [item.id for item in dataset.items]

    assert drawn(6, 0) == sorted(drawn(6, 0)) == drawn(6, 0)
    assert set(drawn(3, 0)) < set(drawn(6, 0))
    assert drawn(6, 0) != drawn(6, 1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"limit": 0}, "`limit` is a whole number of at least 1, not 0"),
        ({"limit": 13}, "`limit` is 1 to 12, the images that there are, not 13"),
        ({"sample": 13}, "`sample` is 1 to 12, the images that there are, not 13"),
        ({"sample": 3, "seed": -1}, "`seed` is a whole number of at least 0, not -1"),
        ({"limit": "5"}, "`limit` is a whole number, not '5'"),
        ({"layout": "nope"}, "`layout` is one of 'auto', 'class-folders', .*'parquet', not 'nope'"),
        ({"subset_classes": "some"}, "`subset_classes` is one of 'all', 'dataset', not 'some'"),
        ({"limit": 1, "sample": 1}, "`limit` and `sample` exclude each other"),
        ({"seed": 1}, "`seed` draws the images of `sample`; give both, or leave it out"),
    ],
)
def test_parts_that_there_are_not_are_refused(given: Given, options: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        open_dataset(given.root, CLASSES, given.labels, **options)  # type: ignore[arg-type]  # options of a table


def test_a_part_of_a_parquet_file_keeps_its_groups_together(tmp_path: Path, images: list[Labelled]) -> None:
    path = layouts.write_parquet(tmp_path / "a.parquet", images, rows_in_group=5)
    assert open_dataset(path, CLASSES).blocks == (5, 5, 2)
    assert open_dataset(path, CLASSES, limit=6).blocks == (5, 1)
    (tmp_path / "blacklist.txt").write_text("11\n12\n1\n")
    assert open_dataset(path, CLASSES, blacklist=tmp_path / "blacklist.txt").blocks == (4, 5)


def test_images_without_labels_are_said_to_have_none(given: Given) -> None:
    dataset = open_dataset(given.root, CLASSES, "none")
    assert not dataset.scope.labelled
    assert dataset.layout.endswith(", without labels")
    with pytest.raises(InputError, match='`subset_classes="dataset"` needs labels'):
        open_dataset(given.root, CLASSES, "none", subset_classes="dataset")


def test_a_scope_stores_and_says_only_what_is_not_usual() -> None:
    assert (Scope().to_json(), list(Scope().sentences()), Scope().whole) == ({}, [], 0)
    scope = Scope(
        whole=10,
        left_out={"have no label": 3, "are on the blacklist": 1},
        part="the first 5 of 6 images",
        counted_classes=(1, 4),
        several_labels=True,
        labelled=False,
    )
    assert list(scope.sentences()) == [
        "6 of 10 images: 3 have no label, 1 are on the blacklist",
        "the first 5 of 6 images",
        "an image counts as right if any of its labels is among the k best classes",
        "labels are ranked among the data set's 2 classes only",
        "the images have no labels, so there are no errors",
    ]
    assert Scope.from_json(json.loads(json.dumps(scope.to_json()))) == scope
    assert Scope(several_labels=True).to_json() == {"several_labels": True}
