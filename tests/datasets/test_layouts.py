import gzip
import itertools
import json
import os
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import dataset_layouts as layouts
import pytest
from builders import PICTURE_SIZES, colour_classifier, encoded, picture
from dataset_layouts import (
    CLASSES,
    LAYOUTS,
    Labelled,
    add,
    validation_images,
    write_devkit,
    write_parquet,
    write_tar,
)

from ensemble_eval.datasets import ilsvrc, items
from ensemble_eval.datasets import tar as tar_module
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.datasets.opening import open_dataset
from ensemble_eval.errors import InputError, UnreadableImageError
from ensemble_eval.evaluation.api import evaluate
from ensemble_eval.jobs.batch import require_inputs
from ensemble_eval.jobs.process import shard_positions
from ensemble_eval.members import classes
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.patterns import expanded


@pytest.fixture(scope="module")
def images() -> list[Labelled]:
    sizes = (*PICTURE_SIZES, *PICTURE_SIZES)
    return validation_images(
        [encoded(picture(width, height, seed), "JPEG") for seed, (width, height) in enumerate(sizes)]
    )


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    members = [Member(f"{seed}", predict=colour_classifier(seed), fingerprint=f"{seed}") for seed in range(2)]
    return Ensemble(members, CLASSES)


def _opened(root: Path, layout: str, images: list[Labelled]) -> Dataset:
    given = LAYOUTS[layout](root, images)
    return open_dataset(given.root, CLASSES, given.labels)


@pytest.fixture(scope="module")
def expected_table(images: list[Labelled], ensemble: Ensemble, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The table of the same images in memory, which no reader of a layout has seen."""
    out = tmp_path_factory.mktemp("memory")
    in_memory = [(image.name, image.label, image.data) for image in images]
    evaluate(ensemble, in_memory, crops=1, out=out, device="cpu", backend="torch", batch_size=4)
    return (out / "table3.csv").read_bytes()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_images_give_the_same_table_in_every_layout(
    tmp_path: Path, layout: str, images: list[Labelled], ensemble: Ensemble, expected_table: bytes
) -> None:
    dataset = _opened(tmp_path / "data", layout, images)
    assert sorted((item.label, item.read()) for item in dataset.items) == sorted(
        (image.label, image.data) for image in images
    )
    assert [item.id for item in dataset.items] == sorted({item.id for item in dataset.items})
    assert dataset.ignored == ()
    outcome = evaluate(
        ensemble, dataset, crops=1, out=tmp_path / "out", device="cpu", backend="torch", batch_size=4
    )
    assert outcome.table.read_bytes() == expected_table


@pytest.mark.slow
def test_the_same_photographs_give_the_same_table_in_every_layout(
    tmp_path: Path, photographs: list[Path], ensemble: Ensemble
) -> None:
    images = validation_images([path.read_bytes() for path in photographs[::8]])
    tables = set()
    for layout in LAYOUTS:
        dataset = _opened(tmp_path / layout, layout, images)
        out = tmp_path / f"out {layout}"
        tables.add(evaluate(ensemble, dataset, crops=1, out=out, device="cpu", backend="torch").table.read_bytes())
    assert len(tables) == 1


def test_a_folder_and_an_archive_of_it_are_one_data_set_to_a_run(tmp_path: Path, images: list[Labelled]) -> None:
    names = ["table", "caffe", "kaggle", "devkit", "packed_devkit", "tar_with_table"]
    assert len({_opened(tmp_path / name, name, images).sha256 for name in names}) == 1
    folders = ["class_folders", "tar_of_folders"]
    assert len({_opened(tmp_path / name, name, images).sha256 for name in folders}) == 1


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ("class_folders", "class folders"),
        ("table", "files, with a table of labels ("),
        ("caffe", "files, with Caffe's list of labels ("),
        ("kaggle", "files, with Kaggle's labels ("),
        ("devkit", "files, with the development kit's ground truth ("),
        ("packed_devkit", "a tar of images, with the development kit's ground truth ("),
        ("tar_of_folders", "a tar of class folders"),
        ("webdataset", "WebDataset, 2 shards"),
        ("parquet", "Parquet, 2 files"),
    ],
)
def test_what_was_recognised_is_said(tmp_path: Path, images: list[Labelled], layout: str, said: str) -> None:
    assert _opened(tmp_path, layout, images).layout.startswith(said)


def test_names_of_classes_in_a_parquet_file_decide_where_they_are_the_ensembles(
    tmp_path: Path, images: list[Labelled]
) -> None:
    path = write_parquet(tmp_path / "a.parquet", images, tuple(reversed(CLASSES)))
    labels = [item.label for item in open_dataset(path, CLASSES).items]
    assert labels == [len(CLASSES) - 1 - image.label for image in images]
    with pytest.raises(InputError, match=r"of 2 classes, of which 2 are not among the ensemble's 7 \(x, y\)"):
        open_dataset(write_parquet(tmp_path / "b.parquet", images, ["x", "y"]), CLASSES)


def test_names_of_a_parquet_file_of_which_some_are_no_classes_are_refused(
    tmp_path: Path, images: list[Labelled]
) -> None:
    names = [CLASSES[1], CLASSES[0], "x", *CLASSES[3:]]
    with pytest.raises(InputError, match=r"of 7 classes, of which 1 are not among the ensemble's 7 \(x\); use"):
        open_dataset(write_parquet(tmp_path / "a.parquet", images, names), CLASSES)
    by_position = open_dataset(write_parquet(tmp_path / "b.parquet", images, list("abcdefg")), CLASSES)
    assert [item.label for item in by_position.items] == [image.label for image in images]
    with pytest.raises(InputError, match=r"of 6 classes, of which 6 are not among .* \(a, b, c, …\)"):
        open_dataset(write_parquet(tmp_path / "c.parquet", images[:1], list("abcdef")), CLASSES)


def test_links_devices_and_names_that_lead_out_of_an_archive_take_no_part(tmp_path: Path) -> None:
    path = tmp_path / "val.tar"
    with tarfile.open(path, "w") as tar:
        add(tar, f"./{CLASSES[0]}/a.jpg", b"a")
        add(tar, f"{CLASSES[1]}/b.jpg", b"b")
        for name in (
            "/etc/c.jpg",
            f"{CLASSES[0]}/../../d.jpg",
            f"{CLASSES[0]}/notes.txt",
            f"{CLASSES[0]}/._a.jpg",
        ):
            add(tar, name, b"x")
        folder = tarfile.TarInfo(CLASSES[0])
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, kind in (("e.jpg", tarfile.SYMTYPE), ("f.jpg", tarfile.LNKTYPE), ("g.jpg", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(f"{CLASSES[0]}/{name}")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    dataset = open_dataset(path, CLASSES)
    assert [(item.id, item.read()) for item in dataset.items] == [
        (f"{CLASSES[0]}/a.jpg", b"a"),
        (f"{CLASSES[1]}/b.jpg", b"b"),
    ]
    assert len(dataset.ignored) == 7


def test_one_shard_is_enough_and_a_label_may_have_spaces_around_it(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"x.jpg": b"x", "x.cls": b"3".rjust(1 << 20)})
    dataset = open_dataset(path, CLASSES)
    assert (dataset.source, dataset.layout) == (str(path), "WebDataset, 1 shards")
    assert [(item.id, item.label) for item in dataset.items] == [("a/x.jpg", 3)]


def test_a_header_may_be_as_long_as_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_module, "_MAX_HEADER_BYTES", tarfile.BLOCKSIZE)
    assert len(open_dataset(_two_in_a_tar(tmp_path), CLASSES).items) == 2


def test_an_archive_that_changes_while_it_is_read_gives_no_wrong_image(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "val.tar", {f"{CLASSES[0]}/a.jpg": b"a" * 600, f"{CLASSES[1]}/b.jpg": b"b"})
    item = open_dataset(path, CLASSES).items[0]
    write_tar(path, {f"{CLASSES[0]}/a.jpg": b"another"})
    with pytest.raises(UnreadableImageError, match="has changed since it was opened"):
        item.read()
    # The same of one that is open already.
    path = write_tar(tmp_path / "other.tar", {f"{CLASSES[0]}/a.jpg": b"a" * 600, f"{CLASSES[1]}/b.jpg": b"b"})
    item = open_dataset(path, CLASSES).items[0]
    assert item.read() == b"a" * 600
    os.utime(path, (0, 0))
    with pytest.raises(UnreadableImageError, match="has changed since it was opened"):
        item.read()


@pytest.mark.parametrize("layout", ["packed_devkit", "webdataset", "parquet"])
def test_ranks_read_their_own_images_and_no_others(
    tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Random bytes, so that packing does not make them fewer.
    images = validation_images([os.urandom(20_000) for _ in range(24)])
    dataset = _opened(tmp_path, layout, images)
    everything = sum(len(image.data) for image in images)
    read = 0
    reading = items.Container.reopened

    def counting(container: items.Container) -> object:
        file = reading(container)
        return _Counting(file, count)

    def count(size: int) -> None:
        nonlocal read
        read += size

    pread = os.pread

    def counting_pread(handle: int, size: int, offset: int) -> bytes:
        data = pread(handle, size, offset)
        count(len(data))
        return data

    monkeypatch.setattr(items.Container, "reopened", counting)
    monkeypatch.setattr(os, "pread", counting_pread)
    shards = shard_positions(len(dataset.items), 3, "session", dataset.blocks)
    assert sorted(position for shard in shards for position in shard) == list(range(24))
    for shard in shards:
        read = 0
        assert len({dataset.items[position].read() for position in shard}) == len(shard)
        mine = len(shard) / 24 * everything
        # A group's images are packed with their lengths and a header or two.
        assert mine <= read <= 1.02 * mine


class _Counting:
    """A file that says how much is read of it."""

    def __init__(self, file: object, count: Callable[[int], None]) -> None:
        self._file = file
        self._count = count

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def __enter__(self) -> "_Counting":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()  # type: ignore[attr-defined]  # a wrapped file

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._file.read(size)  # type: ignore[attr-defined]  # a wrapped file
        self._count(len(data))
        return data


def test_rows_of_one_group_go_to_one_rank(tmp_path: Path) -> None:
    images = validation_images([bytes([number]) * 10 for number in range(11)])
    dataset = _opened(tmp_path, "parquet", images)
    assert sum(dataset.blocks) == 11
    assert max(dataset.blocks) == 2
    ends = [sum(dataset.blocks[:place]) for place in range(len(dataset.blocks) + 1)]
    for shard in shard_positions(11, 2, "x", dataset.blocks):
        for begin, end in itertools.pairwise(ends):
            assert len(set(shard) & set(range(begin, end))) in (0, end - begin)


def _cut(path: Path, size: int) -> Path:
    path.write_bytes(path.read_bytes()[:size])
    return path


def _two_in_a_tar(root: Path) -> Path:
    return write_tar(root / "val.tar", {f"{CLASSES[index]}/a.jpg": b"a" * 2000 for index in range(2)})


def _twice(root: Path) -> Path:
    with tarfile.open(root / "val.tar", "w") as tar:
        for _ in range(2):
            add(tar, f"{CLASSES[0]}/a.jpg", b"a")
    return root / "val.tar"


def _joined(root: Path) -> Path:
    path = _two_in_a_tar(root)
    path.write_bytes(path.read_bytes() * 2)
    return path


def _packed(root: Path) -> Path:
    (root / "val.tar").write_bytes(gzip.compress(_two_in_a_tar(root).read_bytes()))
    return root / "val.tar"


def _shard(root: Path, files: dict[str, bytes]) -> Path:
    write_tar(root / "a-0.tar", {"x.jpg": b"x", "x.cls": b"0"})
    return write_tar(root / "a-1.tar", files).with_name("a-{0..1}.tar")


def _splits(root: Path) -> Path:
    one = validation_images([b"x"])
    for name in ("train-00000-of-00001", "validation-00000-of-00001"):
        write_parquet(root / f"{name}.parquet", one)
    return root


def _of_one_name(root: Path) -> Path:
    for folder in "bc":
        write_parquet(root / folder / "a.parquet", validation_images([b"x"]))
    return root / "?" / "a.parquet"


def _incomplete(root: Path) -> Path:
    for number in (0, 2):
        write_parquet(root / f"validation-{number:05d}-of-00003.parquet", validation_images([b"x"]))
    return root


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda root: _cut(_two_in_a_tar(root), 700),
            r"damaged or cut short \(.*does not lie where its header says\); get it again",
        ),
        (
            lambda root: _cut(_two_in_a_tar(root), 512 + 2048),
            "ends without the mark of a tar's end, so it was cut",
        ),
        (_twice, f"holds {CLASSES[0]}/a.jpg twice; keep one of the two"),
        (_joined, "several archives in one"),
        (_packed, "is compressed, so that its images cannot be read one by one; use `gunzip` on it first"),
        (
            lambda root: _packed(root).rename(root / "val.tar.gz"),
            "is compressed, .* one by one; unpack it, or make",
        ),
        (lambda root: write_tar(root / "val.tar", {"a.txt": b"x"}), "holds no images"),
        (
            lambda root: write_tar(root / "val.tar", {"n1/a.jpg": b"x", "n2/a.jpg": b"x"}),
            "2 folders are not among",
        ),
        (
            lambda root: _shard(root, {"y.jpg": b"y"}),
            r"1 images of the shard .*a-1.tar have neither .cls nor .json",
        ),
        (lambda root: _shard(root, {"y.jpg": b"", "y.png": b"", "y.cls": b"1"}), "has 2 images of the key y"),
        (
            lambda root: _shard(root, {"y.jpg": b"y", "y.cls": b"7"}),
            "label of a-1/y.jpg is '7'; it must be a class",
        ),
        (lambda root: _shard(root, {"y.jpg": b"y", "y.json": b"{"}), "y.json is no valid JSON"),
        (
            lambda root: _shard(root, {"y.jpg": b"y", "y.json": b"{}"}),
            "has no class index or name as label or cls",
        ),
        (lambda root: _shard(root, {"y.jpg": b"y", "y.cls": b"\xff"}), "y.cls is not UTF-8 text"),
        (
            lambda root: _shard(root, {"y.jpg": b"y", "y.cls": b"1".rjust(1 + (1 << 20))}),
            "y.cls has more than 1048576 bytes; is it a label",
        ),
        (lambda root: _shard(root, {"y.cls": b"1"}), "the shard .*a-1.tar holds no images"),
        (lambda root: root / "a-{0..1}.tar", "2 of the 2 files of .* do not exist"),
        (lambda root: root / "a-*.tar", "no file matches"),
        (_splits, r"several data sets or splits \(train, validation\); name those of one, such as"),
        (_incomplete, "only 2 of the 3 files .*validation-.* are there; get the others too"),
        (_of_one_name, r"two of the files .*a.parquet, … have one name, so that their rows could not be told"),
        (
            lambda root: write_parquet(root / "a.parquet", validation_images([b"x"]), with_bytes=False),
            "holds the paths of images and not their bytes; store the bytes too",
        ),
        (
            lambda root: write_parquet(root / "a.parquet", [Labelled("a", -1, b"x")]),
            r'the label of row 0 is -1; it must be a class index from 0 to 6 \(labels="none" takes',
        ),
        (
            lambda root: _cut(write_parquet(root / "a.parquet", validation_images([b"x"])), 200),
            "is no Parquet file, or is damaged or cut short",
        ),
        (lambda root: root, "holds no images in class folders"),
    ],
)
def test_what_is_malformed_is_refused_in_one_sentence(
    tmp_path: Path, make: Callable[[Path], Path], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence) as refused:
        open_dataset(make(tmp_path), CLASSES)
    assert "\n" not in str(refused.value)


def test_braces_name_every_file_of_a_range_and_none_of_an_empty_one(tmp_path: Path) -> None:
    files = [tmp_path / folder / f"a-{number}.tar" for folder in "01" for number in ("08", "09", "10")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    assert expanded(tmp_path / "{0..1}" / "a-{08..10}.tar") == files
    for braces in ("{3..2}", "{1..2}{1..99999}"):
        with pytest.raises(InputError, match="stands for no files, or for more than"):
            expanded(tmp_path / f"a-{braces}.tar")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a.jpg 0\na.jpg 1\n", "line 2: a.jpg is listed twice; keep one line"),
        ("ILSVRC2012_val_00000001.JPEG 7\n", "is '7'; it must be a class index from 0 to 6"),
        ("ILSVRC2012_val_00000001.JPEG 0\nx.JPEG 0\n", "1 images are not there but stand in .*x.JPEG"),
        ("other.JPEG 0\n", "1 images have no label in .*, and 1 images are not there"),
        (
            "ImageId,PredictionString\nILSVRC2012_val_00000001,n01440764 1 2 3\n",
            "are not a class and four numbers",
        ),
        ("ImageId,PredictionString\nILSVRC2012_val_00000001,n00000000 1 2 3 4\n", "is 'n00000000'; it must be"),
        ("[[0], [1], 2]", "entry 3 is not a list of class indices from 0 to 6"),
        ("[[0], [1.5]]", "entry 2 is not a list of class indices"),
        ("[[0],", "is no valid JSON"),
        ("[[]]", "lists no class for any of the images"),
        ("1\n", "there is no meta.mat beside .*; give ILSVRC2012_devkit_t12 as it is"),
        ("", "needs the header file,label"),
    ],
)
def test_label_files_that_do_not_fit_are_refused_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    layouts.flat(tmp_path, validation_images([b"x"]))
    (tmp_path / "labels").write_text(text)
    with pytest.raises(InputError, match=sentence):
        open_dataset(tmp_path / "val", CLASSES, tmp_path / "labels")


_WITH_LABELS = {"table": "table.csv", "caffe": "val.txt", "kaggle": "LOC_val_solution.csv"}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte-order mark"])
@pytest.mark.parametrize("packed", [False, True], ids=["as it is", "gzipped"])
@pytest.mark.parametrize("layout", [*_WITH_LABELS, "devkit", "real"])
def test_files_of_labels_may_be_gzipped_or_have_a_byte_order_mark(
    tmp_path: Path, images: list[Labelled], layout: str, packed: bool, mark: bytes
) -> None:
    given = LAYOUTS["table" if layout == "real" else layout](tmp_path, images)
    labels = tmp_path / _WITH_LABELS.get(layout, "real.json")
    if layout == "devkit":
        labels = tmp_path / "ILSVRC2012_devkit_t12" / "data" / ilsvrc.GROUND_TRUTH
    if layout == "real":
        labels.write_text(json.dumps([[image.label] for image in images]))
    expected = [(item.id, item.label) for item in open_dataset(given.root, CLASSES, labels).items]
    assert expected == sorted((image.name, image.label) for image in images)
    data = mark + labels.read_bytes()
    other = labels.with_name("given")
    other.write_bytes(gzip.compress(data) if packed else data)
    assert [(item.id, item.label) for item in open_dataset(given.root, CLASSES, other).items] == expected


def test_a_blacklist_may_be_gzipped_or_have_a_byte_order_mark(tmp_path: Path, images: list[Labelled]) -> None:
    given, blacklist = layouts.caffe(tmp_path, images), tmp_path / "blacklist"
    for data in (b"2\n3\n", b"\xef\xbb\xbf2\n3\n", gzip.compress(b"2\n3\n")):
        blacklist.write_bytes(data)
        dataset = open_dataset(given.root, CLASSES, blacklist=blacklist)
        assert len(dataset.items) == len(images) - 2


def test_a_kit_may_be_a_tar_that_is_not_packed(tmp_path: Path, images: list[Labelled]) -> None:
    given, kit = layouts.packed_devkit(tmp_path, images), tmp_path / "ILSVRC2012_devkit_t12.tar.gz"
    expected = open_dataset(given.root, CLASSES).sha256
    (tmp_path / "kit").write_bytes(gzip.decompress(kit.read_bytes()))
    assert open_dataset(given.root, CLASSES, tmp_path / "kit").sha256 == expected


@pytest.mark.parametrize("layout", ["caffe", "packed_devkit"])
def test_packed_labels_that_are_damaged_are_refused(tmp_path: Path, images: list[Labelled], layout: str) -> None:
    given = LAYOUTS[layout](tmp_path, images)
    labels = tmp_path / ("val.txt" if layout == "caffe" else "ILSVRC2012_devkit_t12.tar.gz")
    data = labels.read_bytes() if layout == "packed_devkit" else gzip.compress(labels.read_bytes())
    for damaged in (data[:-9], data[:20], data[:40] + bytes(20) + data[60:], b"\x1f\x8b" + b"x" * 100):
        (tmp_path / "damaged").write_bytes(damaged)
        with pytest.raises(InputError, match=r"damaged is damaged \(.*\); get it again"):
            open_dataset(given.root, CLASSES, tmp_path / "damaged")


def test_ground_truth_of_another_length_or_kit_is_refused(tmp_path: Path) -> None:
    folder = layouts.flat(tmp_path, validation_images([b"x", b"y"]))
    with pytest.raises(InputError, match=r"1 images have no label in .*kit \(ILSVRC2012_val_00000002.JPEG\)"):
        open_dataset(folder, CLASSES, write_devkit(tmp_path / "short kit", [0]))
    with pytest.raises(InputError, match=r"1 images are not there but stand in .*kit \(3\)"):
        open_dataset(folder, CLASSES, write_devkit(tmp_path / "long kit", [0, 1, 2]))
    with pytest.raises(InputError, match=r"ids in meta.mat are not 1, 2, 3 and so on"):
        open_dataset(folder, CLASSES, write_devkit(tmp_path / "kit", [0, 1], ILSVRC2012_ID=range(2, 10)))
    kit = write_devkit(tmp_path / "other kit", [0, 1])
    (kit / "data" / ilsvrc.GROUND_TRUTH).write_text("1\n8\n")
    with pytest.raises(InputError, match=r"image 2 is 8, which is none of the 7 ids in meta.mat; is it the right"):
        open_dataset(folder, CLASSES, kit)
    kit = write_devkit(tmp_path / "damaged", [0, 1])
    (kit / "data" / "meta.mat").write_bytes(b"x" * 1000)
    with pytest.raises(InputError, match=r"meta.mat is damaged, or of another kit"):
        open_dataset(folder, CLASSES, kit)


def test_a_size_below_zero_leads_no_reader_back_to_where_it_was(tmp_path: Path) -> None:
    info = tarfile.TarInfo(f"{CLASSES[0]}/a.jpg")
    info.size = -512
    (tmp_path / "val.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) * 2 + bytes(10240))
    with pytest.raises(InputError, match="damaged or cut short"):
        open_dataset(tmp_path / "val.tar", CLASSES)


@pytest.mark.parametrize("sizes", [[-512], [0, -1024], [512, -1536]])
def test_a_size_below_zero_leads_no_reader_of_a_kit_back_to_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    given = layouts.packed_devkit(tmp_path, validation_images([b"x"]))
    data = b""
    for number, size in enumerate(sizes):
        info = tarfile.TarInfo(f"{number}")
        info.size = size
        data += info.tobuf(tarfile.GNU_FORMAT) + bytes(max(size, 0))
    (tmp_path / "kit").write_bytes(gzip.compress(data + bytes(10240)))
    following = tarfile.TarFile.next
    headers = itertools.count(1)

    def counted(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        assert next(headers) < 10, "the archive has three headers"
        return following(tar)

    monkeypatch.setattr(tarfile.TarFile, "next", counted)
    with pytest.raises(InputError, match=r"damaged .*does not lie where its header says\); get it again"):
        open_dataset(given.root, CLASSES, tmp_path / "kit")


def test_a_kit_that_unpacks_to_more_than_any_kit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = layouts.packed_devkit(tmp_path, validation_images([b"x"]))
    monkeypatch.setattr(ilsvrc, "_MAX_KIT_BYTES", 1000)
    with pytest.raises(InputError, match=r"holds more than 1000 bytes; is it the development kit\?"):
        open_dataset(given.root, CLASSES)
    monkeypatch.undo()
    monkeypatch.setattr(classes, "MAX_META_BYTES", 1000)
    with pytest.raises(InputError, match="has more than 1000 bytes"):
        open_dataset(given.root, CLASSES)
    for module in (ilsvrc, classes):
        monkeypatch.setattr(module, "MAX_META_BYTES", 100)
    with pytest.raises(InputError, match="has more than 100 bytes"):
        open_dataset(given.root, CLASSES, tmp_path / "elsewhere" / "ILSVRC2012_devkit_t12")


def test_a_missing_scipy_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = layouts.devkit(tmp_path, validation_images([b"x"]))
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(
        InputError, match=r"needs scipy, which is not installed; run: pip install 'ensemble-eval\[devkit\]'"
    ):
        open_dataset(given.root, CLASSES)


def test_a_job_is_not_submitted_for_shards_that_are_not_there(tmp_path: Path, images: list[Labelled]) -> None:
    given = layouts.webdataset(tmp_path, images)
    require_inputs(given.root, [tmp_path], Path("none"))
    with pytest.raises(InputError, match="1 of the 3 files of"):
        require_inputs(tmp_path / "val-{000..002}.tar", [tmp_path], None)


def test_several_files_of_labels_are_a_choice_for_the_user(tmp_path: Path, images: list[Labelled]) -> None:
    given = layouts.caffe(tmp_path, images)
    (tmp_path / "labels.csv").write_text("file,label\n")
    with pytest.raises(
        InputError, match=r"several files of labels \(labels.csv, val.txt\); say which with `labels`"
    ):
        open_dataset(given.root, CLASSES)
    assert len(open_dataset(given.root, CLASSES, tmp_path / "val.txt").items) == len(images)


def test_a_layout_may_be_said(tmp_path: Path, images: list[Labelled]) -> None:
    write_parquet(tmp_path / "a.parquet", images[:2])
    write_tar(tmp_path / "a.tar", {f"{CLASSES[0]}/x.jpg": b"x", f"{CLASSES[1]}/x.jpg": b"x"})
    with pytest.raises(InputError, match="holds tar archives and Parquet files; say which with `layout"):
        open_dataset(tmp_path, CLASSES)
    assert open_dataset(tmp_path, CLASSES, layout="parquet").layout == "Parquet, 1 files"
    assert open_dataset(tmp_path, CLASSES, layout="tar").layout == "a tar of class folders"
    with pytest.raises(InputError, match='`layout="files"` is for a folder'):
        open_dataset(tmp_path / "a.tar", CLASSES, layout="files")
