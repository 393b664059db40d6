from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import encoded, picture

from ensemble_eval.datasets.items import BytesItem, Dataset, FileItem
from ensemble_eval.errors import InputError

PNG = encoded(picture(8, 6))


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 8191, 8192, 8193, 20_000])
def test_bytes_in_memory_have_the_digest_of_the_file_that_holds_them(tmp_path: Path, size: int) -> None:
    data = bytes(index * 7 % 251 for index in range(size))
    (tmp_path / "a.png").write_bytes(data)
    file, memory = FileItem("a.png", 0, tmp_path), BytesItem("a.png", 0, data)
    assert memory.digest() == file.digest()
    assert memory.read() == file.read()


def test_a_data_set_in_memory_has_the_fingerprint_of_the_same_files(tmp_path: Path) -> None:
    images = [(f"{index}.png", index % 3, encoded(picture(8 + index, 6))) for index in range(5)]
    for name, _, data in images:
        (tmp_path / name).write_bytes(data)
    on_disk = tuple(FileItem(name, label, tmp_path) for name, label, _ in images)
    assert Dataset.of(reversed(images)).sha256 == Dataset("disk", on_disk).sha256
    relabelled = [(name, label + (name == "2.png"), data) for name, label, data in images]
    assert Dataset.of(relabelled).sha256 != Dataset.of(images).sha256


def test_bytes_are_not_printed() -> None:
    assert "IHDR" not in repr(Dataset.of([("a.png", 0, PNG)]))


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ([], "has no images"),
        ([("a.png", 0, PNG), ("b.png", 1, PNG), ("a.png", 2, PNG)], "'a.png' stands twice"),
        ([("", 0, PNG)], "row 0 of the images: `id` is a text, not ''"),
        ([("a.png", 0, PNG), (Path("b.png"), 0, PNG)], r"row 1 of the images: `id` is a text, not .*'b\.png'"),
        ([("a\udc80.png", 0, PNG)], r"`id` is 'a\\udc80\.png', which is not UTF-8; give it another name"),
        ([("a.png", -1, PNG)], "`label` is a class index, a whole number of at least 0, not -1"),
        ([("a.png", True, PNG)], "`label` is a class index, a whole number, not True"),
        ([("a.png", 3.0, PNG)], r"`label` is a class index, a whole number, not 3\.0"),
        ([("a.png", "ant", PNG)], "`label` is a class index, a whole number, not 'ant'"),
        ([("a.png", None, PNG)], "`label` is a class index, a whole number, not None"),
        ([("a.png", 0, Path("a.png"))], r"`image` is the bytes of an image file, as Path\.read_bytes\(\) gives"),
        ([("a.png", 0, picture(8, 6))], r"`image` is the bytes of an image file, .*, not <PIL\.Image"),
        ([("a.png", 0, "a.png")], "`image` is the bytes of an image file, .*, not 'a.png'"),
        ([("a.png", 0)], r"row 0 of the images is \(id, label, bytes\), not \('a.png', 0\)"),
        ([("a.png", 0, PNG, 0)], r"row 0 of the images is \(id, label, bytes\), not \("),
        (["a.p"], r"row 0 of the images is \(id, label, bytes\), not 'a.p'"),
        (5, r"images in memory are rows of \(id, label, bytes\), not 5"),
        (Path("val"), r"images in memory are rows of \(id, label, bytes\), not .*'val'"),
    ],
)
def test_images_in_memory_that_are_no_data_set_are_refused(images: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Dataset.of(images)


def test_labels_and_bytes_may_be_of_the_types_that_other_libraries_have() -> None:
    plain = Dataset.of([("a.png", 1, PNG)])
    [item] = Dataset.of([["a.png", np.int64(1), memoryview(PNG)]]).items  # type: ignore[list-item]  # what NumPy gives
    assert item == plain.items[0]
    assert type(item.label) is int
