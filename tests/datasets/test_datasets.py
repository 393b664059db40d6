import os
from pathlib import Path

import numpy as np
import pytest
from builders import encoded, picture

from ensemble_eval.datasets.class_folders import open_class_folders
from ensemble_eval.datasets.labelled_files import open_labelled_files
from ensemble_eval.datasets.opening import open_dataset
from ensemble_eval.errors import InputError, UnreadableImageError
from ensemble_eval.members.manifest import IMAGENET_1K, ClassList

PNG = encoded(picture(8, 6))


def _write(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)
    return root


def test_sorted_class_folders_are_the_indices_and_empty_ones_count(tmp_path: Path) -> None:
    _write(tmp_path, "n02/b.JPEG", "n02/deep/a.png", "n00/z.jpg")
    (tmp_path / "n01").mkdir()
    dataset = open_class_folders(tmp_path)
    assert [(item.id, item.label) for item in dataset.items] == [
        ("n00/z.jpg", 0),
        ("n02/b.JPEG", 2),
        ("n02/deep/a.png", 2),
    ]
    assert dataset.class_names == ("n00", "n01", "n02")
    assert dataset.items[0].read() == PNG


def test_a_class_list_gives_the_indices_in_its_own_order(tmp_path: Path) -> None:
    _write(tmp_path, "ant/a.png", "cat/b.png")
    dataset = open_class_folders(tmp_path, ("cat", "dog", "ant"))
    assert [(item.id, item.label) for item in dataset.items] == [("ant/a.png", 2), ("cat/b.png", 0)]


def test_hidden_files_take_no_part_and_other_files_are_named(tmp_path: Path) -> None:
    _write(tmp_path, "ant/a.png", "ant/.b.png", ".git/c.png", "ant/notes.txt", "stray.png")
    dataset = open_class_folders(tmp_path)
    assert [item.id for item in dataset.items] == ["ant/a.png"]
    assert dataset.ignored == ("ant/notes.txt", "stray.png")


def test_a_folder_that_links_to_itself_is_walked_once(tmp_path: Path) -> None:
    _write(tmp_path, "ant/a.png")
    (tmp_path / "ant" / "again").symlink_to(tmp_path / "ant")
    assert [item.id for item in open_class_folders(tmp_path).items] == ["ant/a.png"]


def test_folders_that_are_no_classes_of_the_ensemble_are_refused(tmp_path: Path) -> None:
    _write(tmp_path, "ant/a.png", "cow/a.png", "elk/a.png", "hen/a.png", "owl/a.png")
    with pytest.raises(InputError, match=r"4 folders are not among the ensemble's 2 classes \(cow, elk, hen, …\)"):
        open_class_folders(tmp_path, ("ant", "bee"))


def test_folders_named_by_unpadded_numbers_are_refused(tmp_path: Path) -> None:
    _write(tmp_path, *(f"{index}/a.png" for index in range(12)))
    with pytest.raises(InputError, match="sort as text"):
        open_class_folders(tmp_path)
    names = tuple(map(str, range(12)))
    assert [item.label for item in open_class_folders(tmp_path, names).items if item.id == "10/a.png"] == [10]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda _: None, "does not exist; give the folder that holds the images"),
        (lambda path: path.write_text(""), "is a file, not a folder; give the folder that holds the images"),
        (lambda path: path.mkdir(), "holds no images in class folders"),
        (lambda path: _write(path, "a.png", "b.png"), "or --labels for a flat one"),
    ],
)
def test_what_is_no_folder_of_class_folders_is_refused(tmp_path: Path, make: object, sentence: str) -> None:
    assert callable(make)
    make(tmp_path / "val")
    with pytest.raises(InputError, match=sentence):
        open_class_folders(tmp_path / "val")


def test_imagenets_1000_wnids_must_all_be_there(tmp_path: Path) -> None:
    imagenet = ClassList(IMAGENET_1K, 1000, None)
    _write(tmp_path, "n00000005/a.png")
    with pytest.raises(InputError, match=r"has 1 class folders, and imagenet-1k needs 1000 named by WNID"):
        open_dataset(tmp_path, imagenet)
    for index in range(1000):
        (tmp_path / f"n{index:08}").mkdir(exist_ok=True)
    assert [item.label for item in open_dataset(tmp_path, imagenet).items] == [5]


def test_the_fingerprint_shows_a_file_replaced_by_one_of_the_same_size(tmp_path: Path) -> None:
    picture = np.random.default_rng(1).integers(0, 255, 20_000, dtype=np.uint8).tobytes()
    _write(tmp_path, "ant/a.png")
    path = tmp_path / "ant" / "a.png"
    path.write_bytes(picture)
    original = open_class_folders(tmp_path).sha256
    for replacement in (b"x" + picture[1:], picture[:-1] + b"x", picture[:100] + b"xy" + picture[102:]):
        path.write_bytes(replacement)
        assert open_class_folders(tmp_path).sha256 != original
    path.write_bytes(picture)
    assert open_class_folders(tmp_path).sha256 == original


def test_the_fingerprint_does_not_depend_on_where_the_files_lie(tmp_path: Path) -> None:
    for root in ("here", "there"):
        _write(tmp_path / root, "ant/a.png", "bee/b.png")
    os.utime(tmp_path / "there" / "ant" / "a.png", (1, 1))
    assert open_class_folders(tmp_path / "here").sha256 == open_class_folders(tmp_path / "there").sha256


def test_the_fingerprint_shows_a_changed_label_name_or_size(tmp_path: Path) -> None:
    _write(tmp_path, "ant/a.png")
    (tmp_path / "bee").mkdir()
    original = open_class_folders(tmp_path).sha256
    assert open_class_folders(tmp_path).sha256 == original
    assert open_class_folders(tmp_path, ("bee", "ant")).sha256 != original
    (tmp_path / "ant" / "a.png").write_bytes(PNG + b"\n")
    assert open_class_folders(tmp_path).sha256 != original


def test_a_dangling_link_is_an_unreadable_image(tmp_path: Path) -> None:
    _write(tmp_path, "ant/a.png")
    (tmp_path / "ant" / "b.png").symlink_to(tmp_path / "nowhere")
    dataset = open_class_folders(tmp_path)
    assert open_class_folders(tmp_path).sha256 == dataset.sha256
    with pytest.raises(UnreadableImageError, match=r"cannot be read \(No such file or directory\)"):
        dataset.items[1].read()


def test_a_named_pipe_is_an_unreadable_image(tmp_path: Path) -> None:
    _write(tmp_path, "ant/a.png")
    os.mkfifo(tmp_path / "ant" / "b.png")
    dataset = open_class_folders(tmp_path)
    assert [item.id for item in dataset.items] == ["ant/a.png", "ant/b.png"]
    assert len(dataset.sha256) == 64
    with pytest.raises(UnreadableImageError, match=r"cannot be read \(it is a named pipe, not a file\)"):
        dataset.items[1].read()


@pytest.mark.parametrize("place", ["ant/\udcff.png", "\udcff/a.png"])
def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path, place: str) -> None:
    _write(tmp_path, "ant/a.png")
    try:
        _write(tmp_path, place)
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(InputError, match="is not UTF-8; rename it"):
        open_class_folders(tmp_path)


def _labels(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_flat_folder_takes_its_labels_from_a_table(tmp_path: Path) -> None:
    root = _write(tmp_path / "val", "b.png", "a.png", "deep/c.png")
    labels = _labels(root, "\ufefflabel,file,comment\n 1 ,b.png,x\ncat,a.png,\n0,deep/c.png,\n")
    dataset = open_labelled_files(root, labels, 3, ("dog", "ant", "cat"))
    assert [(item.id, item.label) for item in dataset.items] == [("a.png", 2), ("b.png", 1), ("deep/c.png", 0)]
    assert dataset.ignored == ()


def test_a_labelled_file_is_an_image_whatever_its_suffix(tmp_path: Path) -> None:
    root = _write(tmp_path / "val", "a", "notes.txt")
    dataset = open_labelled_files(root, _labels(tmp_path, "file,label\na,1\n"), 2)
    assert [item.id for item in dataset.items] == ["a"]
    assert dataset.ignored == ("notes.txt",)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("file,label\na.png,0\nb.png,1\nx.png,1\n", r"1 files do not exist but stand in .*labels.csv \(x.png\)"),
        ("file,label\na.png,0\n", r"1 images have no label in .*labels.csv \(b.png\); make the labels and"),
        ("file,label\na.png,0\nb.png,7\n", "label of b.png is '7'; it must be a class index from 0 to 6"),
        ("file,label\na.png,0\nb.png,-1\n", "label of b.png is '-1'"),
        ("file,label\na.png,0\nb.png,1.0\n", "label of b.png is '1.0'"),
        ("file,label\na.png,0\nb.png,²\n", "label of b.png is '²'"),
        ("file,label\na.png,0\nb.png\n", "label of b.png is ''"),
        (f"file,label\na.png,0\nb.png,{'1' * 5000}\n", "label of b.png is '111"),
        ("file,label\na.png,0\na.png,1\nb.png,1\n", "labels.csv, line 3: a.png is listed twice; keep one line"),
        (f"file,label\na.png,0\n{'b' * 200_000},1\n", "labels.csv, line .: not valid CSV"),
        ("name,label\na.png,0\n", "need the header file,label"),
        ("", "need the header file,label"),
    ],
)  # fmt: skip
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, table: str, sentence: str) -> None:
    root = _write(tmp_path / "val", "a.png", "b.png")
    with pytest.raises(InputError, match=sentence):
        open_labelled_files(root, _labels(tmp_path, table), 7)


def test_only_the_first_few_mismatches_are_named(tmp_path: Path) -> None:
    root = _write(tmp_path / "val", *(f"{index}.png" for index in range(8)))
    with pytest.raises(InputError, match=r"8 images have no label in .* \(0.png, 1.png, 2.png, 3.png, 4.png, …\)"):
        open_labelled_files(root, _labels(tmp_path, "file,label\n"), 7)


def test_an_index_may_not_be_mistaken_for_a_class_name(tmp_path: Path) -> None:
    root = _write(tmp_path / "val", "a.png")
    with pytest.raises(InputError, match="from 0 to 1 or a class name"):
        open_labelled_files(root, _labels(tmp_path, "file,label\na.png,cow\n"), 2, ("ant", "bee"))


def test_labels_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    root = _write(tmp_path / "val", "a.png")
    with pytest.raises(InputError, match=r"cannot be read \(No such file or directory\); check the path"):
        open_labelled_files(root, tmp_path / "no.csv", 7)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(InputError, match=r"cannot be read \(it is a named pipe, not a file\); check the path"):
        open_labelled_files(root, tmp_path / "pipe.csv", 7)
    (tmp_path / "latin.csv").write_bytes(b"file,label\n\xe9.png,1\n")
    with pytest.raises(InputError, match="not UTF-8 text"):
        open_labelled_files(root, tmp_path / "latin.csv", 7)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="holds no images"):
        open_labelled_files(empty, _labels(tmp_path, "file,label\n"), 7)
