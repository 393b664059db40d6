"""Readers of images, archives and label files."""

import csv
import io
import json
import tarfile
from pathlib import Path

import dataset_layouts as layouts
from builders import encoded, picture
from dataset_layouts import CLASSES, Labelled, validation_images
from runner import Target

from ensemble_eval.crops import pixels
from ensemble_eval.datasets.opening import open_dataset
from ensemble_eval.errors import UnreadableImageError


def _images() -> list[Labelled]:
    return validation_images([encoded(picture(24 + number, 20, number), "JPEG") for number in range(6)])


def _read_all(root: Path, labels: Path | None = None, **options: Path) -> None:
    """Open a data set and read its images, of which any may be unreadable and none may be another's."""
    dataset = open_dataset(root, CLASSES, labels, **options)  # type: ignore[arg-type]  # texts of a file
    ids = [item.id for item in dataset.items]
    assert len(set(ids)) == len(ids)
    assert all(0 <= item.label < len(CLASSES) for item in dataset.items)
    assert len(dataset.sha256) == 64
    for item in dataset.items:
        try:
            assert isinstance(item.read(), bytes)
        except UnreadableImageError:
            continue


def _write_jpegs(folder: Path) -> None:
    for name, image in {
        "a.jpg": encoded(picture(150, 110, 1), "JPEG"),
        "b.jpg": encoded(picture(64, 80, 2).convert("L"), "JPEG"),
        "c.jpg": encoded(picture(70, 60, 3).convert("CMYK"), "JPEG"),
        "d.jpg": encoded(picture(90, 60, 4), "JPEG", progressive=True, quality=60),
    }.items():
        (folder / name).write_bytes(image)


def _decode_all(folder: Path) -> None:
    failed = []
    for path in sorted(folder.iterdir()):
        try:
            image = pixels.decode(path.read_bytes())
            assert image.shape[0] == 3
        except UnreadableImageError as error:
            failed.append(error)
    if failed:
        raise failed[0]


def _write_tar(folder: Path) -> None:
    layouts.tar_of_folders(folder, _images())


def _write_long_names(folder: Path) -> None:
    """Names that need headers of their own, in both dialects."""
    for dialect, name in ((tarfile.PAX_FORMAT, "pax.tar"), (tarfile.GNU_FORMAT, "gnu.tar")):
        with tarfile.open(folder / name, "w", format=dialect) as tar:
            for image in _images()[:3]:
                layouts.add(tar, f"{CLASSES[image.label]}/{'ä' * 120}/{image.name}", image.data)


def _write_shards(folder: Path) -> None:
    layouts.webdataset_with_json(folder, _images())


def _write_parquet(folder: Path) -> None:
    layouts.parquet(folder, _images())


def _write_devkit(folder: Path) -> None:
    layouts.devkit(folder, _images())
    kit = folder / "ILSVRC2012_devkit_t12"
    with tarfile.open(folder / "kit.tar.gz", "w:gz") as tar:
        tar.add(kit, kit.name)


def _write_labels(folder: Path) -> None:
    images = _images()
    layouts.flat(folder, images)
    (folder / "table").write_text("".join(["file,label\n", *(f"{each.name},{each.label}\n" for each in images)]))
    (folder / "caffe").write_text("".join(f"{each.name} {each.label}\n" for each in images))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([("ImageId", "PredictionString")])
    writer.writerows([(each.name[:-5], f"{CLASSES[each.label]} 1 2 3 4 ") for each in images])
    (folder / "kaggle").write_text(text.getvalue())
    (folder / "real").write_text(json.dumps([[each.label, 6] for each in images]))
    (folder / "blacklist").write_text("2\n5\n100\n")


def _read_long_names(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        _read_all(path)


def _read_devkit(folder: Path) -> None:
    _read_all(folder / "val", folder / "ILSVRC2012_devkit_t12")
    _read_all(folder / "val", folder / "kit.tar.gz")


def _read_labels(folder: Path) -> None:
    for name in ("table", "caffe", "kaggle", "real"):
        _read_all(folder / "val", folder / name)
    _read_all(folder / "val", folder / "table", blacklist=folder / "blacklist")


_META = "ILSVRC2012_devkit_t12/data/meta.mat"
_TRUTH = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
_PARQUETS = [f"validation-{number:05d}-of-00002.parquet" for number in range(2)]

TARGETS = [
    # An image may have 89 million pixels, of which three copies are there while it is decoded.
    Target("jpeg", 5000, _write_jpegs, [f"{name}.jpg" for name in "abcd"], _decode_all, mebibytes=1300),
    Target("tar", 250, _write_tar, ["val.tar"], lambda folder: _read_all(folder / "val.tar")),
    Target("tar-names", 150, _write_long_names, ["pax.tar", "gnu.tar"], _read_long_names),
    Target("webdataset", 150, _write_shards, ["val-0.tar", "val-1.tar"], _read_all),
    Target("parquet", 200, _write_parquet, _PARQUETS, _read_all),
    Target("devkit", 100, _write_devkit, [_META, _TRUTH, "kit.tar.gz"], _read_devkit),
    Target("labels", 150, _write_labels, ["table", "caffe", "kaggle", "real", "blacklist"], _read_labels),
]
