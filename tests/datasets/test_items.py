from pathlib import Path

import pytest
from builders import encoded, picture

from ensemble_eval.datasets.items import BytesItem, Dataset, FileItem
from ensemble_eval.errors import InputError

PNG = encoded(picture(8, 6))


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 8191, 8192, 8193, 20_000])
def test_bytes_in_memory_have_the_digest_of_the_file_that_holds_them(tmp_path: Path, size: int) -> None:
    data = bytes(index * 7 % 251 for index in range(size))
    (tmp_path / "a.png").write_bytes(data)
    file, memory = FileItem("a.png", 0, tmp_path / "a.png"), BytesItem("a.png", 0, data)
    assert memory.digest() == file.digest()
    assert memory.read() == file.read()


def test_a_data_set_in_memory_has_the_fingerprint_of_the_same_files(tmp_path: Path) -> None:
    images = [(f"{index}.png", index % 3, encoded(picture(8 + index, 6))) for index in range(5)]
    for name, _, data in images:
        (tmp_path / name).write_bytes(data)
    on_disk = tuple(FileItem(name, label, tmp_path / name) for name, label, _ in images)
    assert Dataset.of(reversed(images)).sha256 == Dataset("disk", on_disk).sha256
    relabelled = [(name, label + (name == "2.png"), data) for name, label, data in images]
    assert Dataset.of(relabelled).sha256 != Dataset.of(images).sha256


def test_bytes_are_not_printed() -> None:
    assert "IHDR" not in repr(Dataset.of([("a.png", 0, PNG)]))


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ([], "has no images"),
        ([("a.png", 0, PNG), ("b.png", 1, PNG), ("a.png", 2, PNG)], "'a.png' is empty or stands twice"),
        ([("", 0, PNG)], "'' is empty or stands twice"),
        ([("a.png", -1, PNG)], "the label of a.png is -1"),
        ([("a.png", True, PNG)], "the label of a.png is True"),
    ],
)
def test_images_in_memory_that_are_no_data_set_are_refused(
    images: list[tuple[str, int, bytes]], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        Dataset.of(images)
