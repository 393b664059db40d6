import csv
import errno
import hashlib
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from builders import SHARED, encoded, picture

from ensemble_eval.datasets import items
from ensemble_eval.datasets.folders import open_class_folders
from ensemble_eval.datasets.items import NO_LABEL, Dataset
from ensemble_eval.datasets.opening import open_dataset
from ensemble_eval.errors import InputError, UnreadableImageError
from ensemble_eval.members.classes import IMAGENET_1K, WNIDS, ClassList

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
    assert dataset.ignored == ("ant/.b.png", "ant/notes.txt", "stray.png")


def test_hidden_and_linked_folders_below_a_class(tmp_path: Path) -> None:
    _write(tmp_path / "val", "ant/a.png", "ant/.thumbnails/a.png", "ant/.thumbnails/deep/b.png", "ant/._a.png")
    _write(tmp_path / "elsewhere", "c.png", "deep/d.png")
    _write(tmp_path / "bees", "d.png")
    (tmp_path / "val" / "ant" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "val" / "bee").symlink_to(tmp_path / "bees")
    (tmp_path / "val" / "ant" / ".DS_Store").write_bytes(b"")
    dataset = open_class_folders(tmp_path / "val")
    assert [(item.id, item.label) for item in dataset.items] == [
        ("ant/a.png", 0),
        ("ant/more/c.png", 0),
        ("ant/more/deep/d.png", 0),
        ("bee/d.png", 1),
    ]
    assert dataset.ignored == ("ant/.thumbnails", "ant/._a.png")


def test_stray_images_at_the_root_are_named_and_other_strays_are_not(tmp_path: Path) -> None:
    _write(tmp_path, "ant/a.png", "z.png", "b.JPEG", ".h.JPEG", "README.txt", ".DS_Store")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    assert open_class_folders(tmp_path).ignored == (".h.JPEG", "b.JPEG", "gone.png", "z.png")


def test_images_are_sorted_by_id_and_not_as_folders_are_walked(tmp_path: Path) -> None:
    _write(tmp_path, "ant/z.png", "ant/a/b.png", "ant/a-b.png", "ant-eater/c.png")
    assert [item.id for item in open_class_folders(tmp_path).items] == [
        "ant-eater/c.png",
        "ant/a-b.png",
        "ant/a/b.png",
        "ant/z.png",
    ]


def test_a_folder_that_links_to_itself_is_walked_once(tmp_path: Path) -> None:
    _write(tmp_path, "ant/a.png")
    (tmp_path / "ant" / "again").symlink_to(tmp_path / "ant")
    assert [item.id for item in open_class_folders(tmp_path).items] == ["ant/a.png"]


def _links(root: Path, **targets: str) -> None:
    """Links by their paths, `__` for a slash."""
    for name, target in targets.items():
        (root / name.replace("__", "/")).symlink_to(target)


@pytest.mark.parametrize(
    ("links", "more", "not_followed"),
    [
        ({"ant__up": ".."}, [], ["ant/up -> .."]),
        ({"ant__up": "../.."}, [], ["ant/up -> ../.."]),
        ({"ant__deep__up": "../.."}, [], ["ant/deep/up -> ../.."]),
        ({"ant__again": "."}, [], ["ant/again -> ."]),
        # Links to siblings, and mutual ones: a folder is read under its own class whichever name comes first.
        ({"ant__x": "../bee"}, [], ["ant/x -> ../bee"]),
        ({"bee__x": "../ant/deep"}, [], ["bee/x -> ../ant/deep"]),
        ({"ant__x": "../bee", "bee__y": "../ant"}, [], ["ant/x -> ../bee", "bee/y -> ../ant"]),
        # Folders elsewhere are followed once, by the link whose name comes first, and never out of them again.
        ({"ant__x": "../../other"}, ["ant/x/c.png", "ant/x/deep/d.png"], []),
        (
            {"ant__x": "../../other", "ant__y": "../../other", "bee__z": "../../other/deep"},
            ["ant/x/c.png", "ant/x/deep/d.png"],
            ["ant/y -> ../../other", "bee/z -> ../../other/deep"],
        ),
        ({"ant__x": "../../other/deep", "bee__z": "../../other"}, ["ant/x/d.png"], ["bee/z -> ../../other"]),
        (
            {"ant__x": "../../other", "../other__x": "../val", "../other__deep__y": "../../there"},
            ["ant/x/c.png", "ant/x/deep/d.png", "ant/x/deep/y/e.png"],
            ["ant/x/x -> ../val"],
        ),
        (
            {"ant__x": "../../other", "../other__x": "../there", "../there__x": "../other"},
            ["ant/x/c.png", "ant/x/deep/d.png", "ant/x/x/e.png"],
            ["ant/x/x/x -> ../other"],
        ),
        # What is not read by its own name may be read by a link.
        ({"ant__x": "../.store"}, ["ant/x/f.png"], []),
        # Class folders that are links themselves.
        ({"cow": "../other/deep"}, ["cow/d.png"], []),
        ({"cow": "../other/deep", "../other__deep__up": ".."}, ["cow/d.png"], ["cow/up -> .."]),
        ({"cow": "../other", "ant__x": "../../other"}, ["cow/c.png", "cow/deep/d.png"], ["ant/x -> ../../other"]),
    ],
)
def test_no_image_counts_twice_by_links_to_folders(
    tmp_path: Path, links: dict[str, str], more: list[str], not_followed: list[str]
) -> None:
    own = ["ant/a.png", "ant/deep/a.png", "bee/b.png"]
    _write(tmp_path, *(f"val/{name}" for name in own), "other/c.png", "other/deep/d.png", "there/e.png")
    root = _write(tmp_path / "val", ".store/f.png")
    _links(root, **links)
    (tmp_path / "link").symlink_to(root)
    for place in (root, tmp_path / "link"):
        dataset = open_class_folders(place, ("ant", "bee", "cow"))
        assert [item.id for item in dataset.items] == sorted([*own, *more])
        assert [item.label for item in dataset.items] == [
            ("ant", "bee", "cow").index(item.id.partition("/")[0]) for item in dataset.items
        ]
        assert list(dataset.ignored) == not_followed


@pytest.mark.parametrize("target", [".", "..", "bee", "bee/deep", "../other"])
def test_a_class_folder_that_is_a_link_to_other_classes_is_refused(tmp_path: Path, target: str) -> None:
    root = _write(tmp_path / "val", "bee/b.png", "bee/deep/c.png")
    _write(tmp_path / "other", "deep/a.png")
    _links(root, ant=target, cow="../other/deep")
    with pytest.raises(InputError, match=r"1 class folders are links to images of other classes \((ant|cow) -> "):
        open_class_folders(root)


def test_a_flat_folder_reads_its_own_images_before_those_that_links_lead_to(tmp_path: Path) -> None:
    root = _write(tmp_path / "val", "a/1.png", "b/2.png")
    _links(root, a__x="../b", b__up="../..")
    dataset = _open_labelled(root, _labels(tmp_path, "file,label\na/1.png,0\nb/2.png,1\n"), 2)
    assert [item.id for item in dataset.items] == ["a/1.png", "b/2.png"]
    assert dataset.ignored == ("a/x -> ../b", "b/up -> ../..")


def test_folders_that_are_no_classes_of_the_ensemble_are_refused(tmp_path: Path) -> None:
    _write(tmp_path, "ant/a.png", "cow/a.png", "elk/a.png", "hen/a.png", "owl/a.png")
    with pytest.raises(InputError, match=r"4 folders are not among the ensemble's 2 classes \(cow, elk, hen, …\)"):
        open_class_folders(tmp_path, ("ant", "bee"))


def test_a_class_list_orders_folders_named_by_numbers(tmp_path: Path) -> None:
    _write(tmp_path, *(f"{index}/a.png" for index in range(12)))
    names = tuple(map(str, range(12)))
    assert [item.label for item in open_class_folders(tmp_path, names).items if item.id == "10/a.png"] == [10]


@pytest.mark.parametrize(
    "names",
    [
        [f"{index}" for index in range(11)],
        ["1", "2", "10"],
        ["9", "10"],
        ["1", "10", "100"],
        [f"{index:02}" for index in range(1, 11)],
        ["1", "10", "2", "x"],
    ],
)
def test_folders_named_by_numbers_are_sorted_as_numbers(tmp_path: Path, names: list[str]) -> None:
    _write(tmp_path, *(f"{name}/a.png" for name in names))
    assert open_class_folders(tmp_path).class_names == tuple(names)


def _labels_by_folder(root: Path, class_names: Sequence[str]) -> dict[str, int]:
    return {item.id.partition("/")[0]: item.label for item in open_class_folders(root, class_names).items}


@pytest.mark.parametrize("first", [0, 1])
def test_a_numbered_folder_for_each_class_stands_for_the_classes_in_their_order(
    tmp_path: Path, first: int
) -> None:
    names = [f"class {chr(97 + index)}" for index in range(12)]
    _write(tmp_path, *(f"{number}/a.png" for number in range(first, first + 12)))
    expected = {str(number): number - first for number in range(first, first + 12)}
    assert _labels_by_folder(tmp_path, names) == expected


def test_some_numbered_folders_are_indices_if_there_is_a_folder_0(tmp_path: Path) -> None:
    _write(tmp_path, "0/a.png", "2/a.png", "10/a.png")
    assert _labels_by_folder(tmp_path, list("abcdefghijkl")) == {"0": 0, "2": 2, "10": 10}


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        (["1", "2", "10"], "3 folders are named by the numbers 1 to 10, which are not the indices of 12 classes"),
        (["0", "12"], "numbers 0 to 12, which are not the indices of 12 classes from 0 on; name them in the"),
        (["0", "1", "01"], "the folders 01 and 1 are of one number; rename one of them"),
    ],
)
def test_numbered_folders_that_may_count_from_0_or_from_1_are_refused(
    tmp_path: Path, numbers: list[str], sentence: str
) -> None:
    _write(tmp_path, *(f"{number}/a.png" for number in numbers))
    with pytest.raises(InputError, match=sentence):
        open_class_folders(tmp_path, list("abcdefghijkl"))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda _: None, "does not exist; give the folder that holds the images"),
        (lambda path: path.write_text(""), "is a file, not a folder; give the folder that holds the images"),
        (lambda path: path.mkdir(), "holds no images in class folders"),
        (lambda path: _write(path, "a.png", "b.png"), "or `labels` for a flat one"),
    ],
)
def test_what_is_no_folder_of_class_folders_is_refused(tmp_path: Path, make: object, sentence: str) -> None:
    assert callable(make)
    make(tmp_path / "val")
    with pytest.raises(InputError, match=sentence):
        open_class_folders(tmp_path / "val")


IMAGENET = ClassList(IMAGENET_1K, 1000, None)


def test_imagenets_wnids_are_those_of_the_challenge() -> None:
    assert len(WNIDS) == len(set(WNIDS)) == 1000
    assert list(WNIDS) == sorted(WNIDS)
    digest = hashlib.sha256("\n".join(WNIDS).encode()).hexdigest()
    assert digest == "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"


def test_imagenets_wnids_are_those_of_an_independent_list() -> None:
    path = SHARED / "images" / "classes.csv"
    if not path.is_file():
        pytest.skip(f"the list is not on this machine ({path})")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["index"]), row["wnid"]) for row in rows] == list(enumerate(WNIDS))


def test_any_of_imagenets_folders_may_be_missing_and_the_others_keep_their_indices(tmp_path: Path) -> None:
    _write(tmp_path, "n01514668/b.png", "n15075141/a.png")
    (tmp_path / "n01440764").mkdir()
    dataset = open_dataset(tmp_path, IMAGENET)
    assert [(item.id, item.label) for item in dataset.items] == [("n01514668/b.png", 7), ("n15075141/a.png", 999)]
    _write(tmp_path, "n00000005/a.png")
    with pytest.raises(InputError, match=r"1 folders are not among the ensemble's 1000 classes \(n00000005\)"):
        open_dataset(tmp_path, IMAGENET)


def test_imagenets_labels_may_be_wnids(tmp_path: Path) -> None:
    root = _write(tmp_path / "val", "a.png", "b.png")
    labels = _labels(tmp_path, "file,label\na.png,n01514668\nb.png,n01440764\n")
    assert [item.label for item in open_dataset(root, IMAGENET, labels).items] == [7, 0]


def test_all_of_imagenets_folders_have_the_fingerprint_that_stored_runs_depend_on(tmp_path: Path) -> None:
    for name in WNIDS:
        (tmp_path / name).mkdir()
    for index in (0, 7, 999):
        (tmp_path / WNIDS[index] / "a.JPEG").write_bytes(str(index).encode())
    golden = "a716c00e387687014fc081adbd10903067397e9c74f17c7c2e8114f63e0bd998"
    assert open_dataset(tmp_path, IMAGENET).sha256 == golden


def test_the_fingerprint_is_the_one_that_stored_runs_depend_on(tmp_path: Path) -> None:
    contents = {
        "ant/b.png": b"short",
        "ant/a/z.JPEG": bytes(range(256)) * 40,
        "ant-eater/c.png": b"",
        "bee/ä.jpg": b"x" * 4096,
    }
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "bee" / "gone.png").symlink_to(tmp_path / "nowhere")
    golden = "4e005d6f16c3af35f2e67d21ced66d82f1910171f14dfa9f673e6629a73a79fe"
    assert open_class_folders(tmp_path).sha256 == golden
    # The fingerprint of a data set without labels holds this one.
    assert NO_LABEL == -1


def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An administrator may read all folders, so that no permission keeps the test from it."""
    _write(tmp_path, "ant/a.png", "bee/b.png")
    listed = os.scandir

    def denied(folder: str) -> object:
        if Path(folder).name == "bee":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
        return listed(folder)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(
        InputError, match=r"bee cannot be read \(Permission denied\), so its images would be missing"
    ):
        open_class_folders(tmp_path)


def test_whoever_stops_while_the_fingerprint_is_read_does_not_wait_for_the_files_that_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, *(f"ant/{index:03}.png" for index in range(200)))

    answers = threading.Event()
    asked = []

    def slow(item: items.FileItem) -> bytes:
        asked.append(item)
        if item.path.name == "000.png":
            raise KeyboardInterrupt
        answers.wait(timeout=20)
        return b""

    monkeypatch.setattr(items.FileItem, "digest", slow)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        _ = open_class_folders(tmp_path).sha256
    assert time.monotonic() - began < 10
    answers.set()
    time.sleep(0.5)
    # Those that were under way, and not the 180 that waited.
    assert len(asked) < 40


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
    with pytest.raises(InputError, match="is not UTF-8; give it another name"):
        open_class_folders(tmp_path)


def _open_labelled(root: Path, labels: Path, classes: int | Sequence[str]) -> Dataset:
    names = [f"class {index}" for index in range(classes)] if isinstance(classes, int) else classes
    return open_dataset(root, names, labels)


def _labels(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_flat_folder_takes_its_labels_from_a_table(tmp_path: Path) -> None:
    root = _write(tmp_path / "val", "b.png", "a.png", "deep/c.png")
    labels = _labels(root, "\ufefflabel,file,comment\n ant ,b.png,x\ncat,a.png,\ndog,deep/c.png\n")
    dataset = _open_labelled(root, labels, ("dog", "ant", "cat"))
    assert [(item.id, item.label) for item in dataset.items] == [("a.png", 2), ("b.png", 1), ("deep/c.png", 0)]
    assert dataset.ignored == ()


def test_a_labelled_file_is_an_image_whatever_its_suffix(tmp_path: Path) -> None:
    root = _write(tmp_path / "val", "a", "notes.txt")
    dataset = _open_labelled(root, _labels(tmp_path, "file,label\na,1\n"), 2)
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
        ("file,label\na.png,0\nx.png,1\n", r"1 images have no label in .*labels.csv \(b.png\), and 1 files do not "
         r"exist but stand in .*labels.csv \(x.png\); make the labels and the folder match"),
        ("file,label\na.png,0\nb.png,1\n.h.png,1\n", r"1 files are hidden, so that they take no part, but stand "
         r"in .*labels.csv \(.h.png\); make"),
        ("file,label\na.png,0\nb.png,1\n.h/x.png,1\n", r"1 files are hidden, .* \(.h/x.png\)"),
        ("file,label\na.png,0\nb.png,1\n.no.png,1\n", r"1 files do not exist but stand in .* \(.no.png\)"),
        ("file,label,label\na.png,0,1\nb.png,1,0\n", "labels.csv, line 1: the header has the column label twice"),
        ("file,label,FILE\na.png,0,a.png\n", "labels.csv, line 1: the header has the column file twice; keep one"),
        ("file,label\na.png,0\nb,x.png,1\n", "labels.csv, line 3: 3 cells under a header of 2; put"),
        ("name,label\na.png,0\n", "needs the header file,label; the first line is 'name,label'"),
        ("filename,label\na.png,0\n", "needs the header file,label; the first line is 'filename,label'"),
        ("file;label\na.png;0\n", "needs the header file,label; the first line is 'file;label'"),
        ("a.png,0\nb.png,1\n", "needs the header file,label; the first line is 'a.png,0'"),
        ("", "needs the header file,label; the first line is ''"),
    ],
)  # fmt: skip
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, table: str, sentence: str) -> None:
    root = _write(tmp_path / "val", "a.png", "b.png", ".h.png", ".h/x.png")
    with pytest.raises(InputError, match=sentence):
        _open_labelled(root, _labels(tmp_path, table), 7)


@pytest.mark.parametrize("header", ["File,Label", " file , label ", "FILE,note,LABEL"])
def test_a_header_in_capitals_or_with_spaces_is_understood(tmp_path: Path, header: str) -> None:
    root = _write(tmp_path / "val", "a.png", "b.png")
    note = ",x" * (header.count(",") - 1)
    dataset = _open_labelled(root, _labels(tmp_path, f"{header}\r\na.png{note},1\r\n\r\nb.png{note},0\r\n"), 2)
    assert [item.label for item in dataset.items] == [1, 0]


def test_labels_that_are_numbers_are_all_indices_or_all_names(tmp_path: Path) -> None:
    root = _write(tmp_path / "val", "a.png", "b.png")
    numbers = ("1", "2", "3")

    def labels(first: str, second: str, names: Sequence[str]) -> list[int]:
        table = _labels(tmp_path, f"file,label\na.png,{first}\nb.png,{second}\n")
        return [item.label for item in _open_labelled(root, table, names).items]

    assert labels("0", "1", numbers) == [0, 1]
    assert labels("3", "1", numbers) == [2, 0]
    assert labels("1", "0", ("0", "1", "2")) == [1, 0]
    assert labels("0", "2", ("0", "3", "2")) == [0, 2]
    with pytest.raises(InputError) as refusal:
        labels("1", "2", numbers)
    assert str(refusal.value).endswith(
        "labels.csv: the labels may be class indices or class names, which differ: '1' of a.png is the index of "
        "the class '2', or the name of the class with index 0; give the classes names that are not numbers"
    )
    with pytest.raises(InputError) as refusal:
        labels("0", "3", numbers)
    assert "some labels are class names ('3' of b.png) and some class indices ('0' of a.png)" in str(refusal.value)


def test_a_list_of_numbers_has_indices_also_where_classes_are_named_by_numbers(tmp_path: Path) -> None:
    _write(tmp_path / "val", "a.png", "b.png")
    dataset = _open_labelled(tmp_path / "val", _labels(tmp_path, "a.png 0\nb.png 1\n"), ["1", "0"])
    assert [item.label for item in dataset.items] == [0, 1]


def test_hidden_images_need_no_label_and_are_named(tmp_path: Path) -> None:
    root = _write(tmp_path / "val", "a.png", "._a.png", ".cache/b.png")
    dataset = _open_labelled(root, _labels(tmp_path, "file,label\na.png,1\n"), 2)
    assert [item.id for item in dataset.items] == ["a.png"]
    assert dataset.ignored == ("._a.png", ".cache")


@pytest.mark.parametrize("place", ["val/results", "val/results/deep", "val/ant/results", "val/.results", "out"])
def test_the_output_folder_is_no_part_of_the_data_set(tmp_path: Path, place: str) -> None:
    root = _write(tmp_path / "val", "ant/a.png", "bee/b.png")
    classes = ClassList("classes.txt", 2, ("ant", "bee"))
    labels = _labels(tmp_path, "file,label\nant/a.png,0\nbee/b.png,1\n")
    out = tmp_path / place
    opened = [open_dataset(root, classes, leaving_out=out), open_dataset(root, classes, labels, leaving_out=out)]
    before = [(dataset.items, dataset.ignored, dataset.sha256) for dataset in opened]
    (out / "predictions").mkdir(parents=True)
    (out / "predictions" / "part.parquet").write_bytes(b"x")
    (out / "run.json").write_bytes(b"{}")
    (tmp_path / "link").symlink_to(out)
    for path in (out, tmp_path / "link"):
        again = [
            open_dataset(root, classes, leaving_out=path),
            open_dataset(root, classes, labels, leaving_out=path),
        ]
        assert [(dataset.items, dataset.ignored, dataset.sha256) for dataset in again] == before


def test_an_output_folder_is_left_out_where_the_data_set_links_to_it(tmp_path: Path) -> None:
    root = _write(tmp_path / "val", "ant/a.png")
    (tmp_path / "out").mkdir()
    (root / "results").symlink_to(tmp_path / "out")
    classes = ClassList("classes.txt", 1, ("ant",))
    assert open_dataset(root, classes, leaving_out=tmp_path / "out").ignored == ()


def test_a_data_set_inside_the_output_folder_is_whole(tmp_path: Path) -> None:
    root = _write(tmp_path / "val", "ant/a.png")
    classes = ClassList("classes.txt", 1, ("ant",))
    (root / "ant" / "up").symlink_to(tmp_path)
    there = open_dataset(root, classes, leaving_out=tmp_path / "results").items
    assert open_dataset(root, classes, leaving_out=tmp_path).items == there


def test_an_output_folder_that_is_the_data_set_or_holds_images_of_it_is_refused(tmp_path: Path) -> None:
    root = _write(tmp_path / "val", "ant/a.png", "bee/b.png", "cow/deep/c.png")
    classes = ClassList("classes.txt", 2, ("ant", "bee"))
    (tmp_path / "link").symlink_to(root)
    for out in (root, tmp_path / "link"):
        with pytest.raises(InputError, match=f'`out="{out}"` is the data set itself'):
            open_dataset(root, classes, leaving_out=out)
    for out in (root / "ant", root / "cow"):
        with pytest.raises(InputError, match=r"holds images of the data set \(..png, …\); choose"):
            open_dataset(root, classes, leaving_out=out)
    with pytest.raises(InputError, match=r"1 folders are not among .* \(cow\)"):
        open_dataset(root, classes, leaving_out=root / "cow" / "results")


def test_only_the_first_few_mismatches_are_named(tmp_path: Path) -> None:
    root = _write(tmp_path / "val", *(f"{index}.png" for index in range(8)))
    with pytest.raises(InputError, match=r"8 images have no label in .* \(0.png, 1.png, 2.png, 3.png, 4.png, …\)"):
        _open_labelled(root, _labels(tmp_path, "file,label\n"), 7)


def test_an_index_may_not_be_mistaken_for_a_class_name(tmp_path: Path) -> None:
    root = _write(tmp_path / "val", "a.png")
    with pytest.raises(InputError, match="from 0 to 1 or a class name"):
        _open_labelled(root, _labels(tmp_path, "file,label\na.png,cow\n"), ("ant", "bee"))


def test_labels_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    root = _write(tmp_path / "val", "a.png")
    with pytest.raises(InputError, match=r"cannot be read \(No such file or directory\); check the path"):
        _open_labelled(root, tmp_path / "no.csv", 7)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(InputError, match=r"cannot be read \(it is a named pipe, not a file\); check the path"):
        _open_labelled(root, tmp_path / "pipe.csv", 7)
    (tmp_path / "latin.csv").write_bytes(b"file,label\n\xe9.png,1\n")
    with pytest.raises(InputError, match="not UTF-8 text"):
        _open_labelled(root, tmp_path / "latin.csv", 7)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="holds no images"):
        _open_labelled(empty, _labels(tmp_path, "file,label\n"), 7)
