"""The same labelled images in every layout that is read, each written by another library or by hand."""

import csv
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.io import savemat

from ensemble_eval.members.classes import WNIDS

CLASSES = WNIDS[:7]
# The development kit has an order of its own, and groups of classes among the classes.
DEVKIT_ORDER = (3, 0, 6, 2, 5, 1, 4)


@dataclass(frozen=True)
class Labelled:
    """One image: the name of its file, its class index and its bytes."""

    name: str
    label: int
    data: bytes


@dataclass(frozen=True)
class Given:
    """What `open_dataset` is given for a layout."""

    root: Path
    labels: Path | None = None


def validation_images(data: Sequence[bytes]) -> list[Labelled]:
    """Images named as ILSVRC's are, of all classes in turn."""
    return [
        Labelled(f"ILSVRC2012_val_{number:08d}.JPEG", (3 * number) % len(CLASSES), each)
        for number, each in enumerate(data, 1)
    ]


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """A regular file in an archive."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def class_folders(root: Path, images: Sequence[Labelled]) -> Given:
    for image in images:
        (root / "val" / CLASSES[image.label]).mkdir(parents=True, exist_ok=True)
        (root / "val" / CLASSES[image.label] / image.name).write_bytes(image.data)
    return Given(root / "val")


def numbered_folders(root: Path, images: Sequence[Labelled]) -> Given:
    for image in images:
        (root / "val" / str(image.label)).mkdir(parents=True, exist_ok=True)
        (root / "val" / str(image.label) / image.name).write_bytes(image.data)
    return Given(root / "val")


def flat(root: Path, images: Sequence[Labelled]) -> Path:
    (root / "val").mkdir(parents=True)
    for image in images:
        (root / "val" / image.name).write_bytes(image.data)
    return root / "val"


def table(root: Path, images: Sequence[Labelled]) -> Given:
    labels = root / "table.csv"
    labels.parent.mkdir(parents=True, exist_ok=True)
    labels.write_text("".join(["file,label\n", *(f"{image.name},{image.label}\n" for image in images)]))
    return Given(flat(root, images), labels)


def caffe(root: Path, images: Sequence[Labelled]) -> Given:
    folder = flat(root, images)
    (root / "val.txt").write_text("".join(f"{image.name} {image.label}\n" for image in images))
    return Given(folder)


def kaggle(root: Path, images: Sequence[Labelled]) -> Given:
    folder = flat(root, images)
    with (root / "LOC_val_solution.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ImageId", "PredictionString"])
        for image in reversed(images):
            box = f"{CLASSES[image.label]} 1 2 30 40 "
            writer.writerow([image.name.removesuffix(".JPEG"), box * (1 + image.label % 2)])
    return Given(folder)


def write_devkit(folder: Path, labels: Sequence[int], **columns: Sequence[object]) -> Path:
    """A development kit's two files, `meta.mat` as MATLAB writes it."""
    wnids = [CLASSES[index] for index in DEVKIT_ORDER]
    rows: Mapping[str, Sequence[object]] = {
        "ILSVRC2012_ID": [*range(1, 8), 8],
        "WNID": [*wnids, "n00001740"],
        "words": [f"words {wnid}" for wnid in [*wnids, "entity"]],
        "num_children": [*[0] * 7, 7],
        **columns,
    }
    synsets = np.zeros((8, 1), dtype=[(name, "O") for name in rows])
    for name, values in rows.items():
        synsets[name][:, 0] = values
    (folder / "data").mkdir(parents=True)
    savemat(folder / "data" / "meta.mat", {"synsets": synsets}, do_compression=True)
    truth = "".join(f"{1 + DEVKIT_ORDER.index(label)}\n" for label in labels)
    (folder / "data" / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)
    return folder


def devkit(root: Path, images: Sequence[Labelled]) -> Given:
    folder = flat(root, images)
    write_devkit(root / "ILSVRC2012_devkit_t12", [image.label for image in images])
    return Given(folder)


def packed_devkit(root: Path, images: Sequence[Labelled]) -> Given:
    """The archive of the images, and the kit's own beside it: nothing is unpacked."""
    kit = write_devkit(root / "elsewhere" / "ILSVRC2012_devkit_t12", [image.label for image in images])
    with tarfile.open(root / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
        tar.add(kit, kit.name)
    return Given(write_tar(root / "ILSVRC2012_img_val.tar", {image.name: image.data for image in images}))


def write_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            add(tar, name, data)
    return path


def tar_with_table(root: Path, images: Sequence[Labelled]) -> Given:
    root.mkdir(parents=True, exist_ok=True)
    labels = root / "table.csv"
    labels.write_text("".join(["file,label\n", *(f"{image.name},{CLASSES[image.label]}\n" for image in images)]))
    return Given(write_tar(root / "val.tar", {f"./{image.name}": image.data for image in images}), labels)


def tar_of_folders(root: Path, images: Sequence[Labelled]) -> Given:
    files = {f"imagenet/val/{CLASSES[image.label]}/{image.name}": image.data for image in images}
    return Given(write_tar(root / "val.tar", files))


def webdataset(root: Path, images: Sequence[Labelled]) -> Given:
    for shard in range(2):
        files: dict[str, bytes] = {}
        for image in images[shard::2]:
            key = image.name.removesuffix(".JPEG")
            files |= {f"{key}.jpg": image.data, f"{key}.cls": f"{image.label}".encode(), f"{key}.txt": b"a word"}
        write_tar(root / f"val-{shard:03d}.tar", files)
    return Given(root / "val-{000..001}.tar")


def webdataset_with_json(root: Path, images: Sequence[Labelled]) -> Given:
    for shard in range(2):
        files: dict[str, bytes] = {}
        for image in images[shard::2]:
            key = f"some/{image.name.removesuffix('.JPEG')}"
            described = {"label": image.label, "filename": image.name}
            files |= {f"{key}.json": json.dumps(described).encode(), f"{key}.jpeg": image.data}
        write_tar(root / f"val-{shard}.tar", files)
    return Given(root)


def write_parquet(
    path: Path,
    images: Sequence[Labelled],
    names: Sequence[str] | None = None,
    *,
    with_bytes: bool = True,
    rows_in_group: int = 2,
) -> Path:
    """A Parquet file with the columns, types and metadata that the Hugging Face library writes."""
    names = [f"a name of {index}" for index in range(len(CLASSES))] if names is None else names
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("label", pa.int64())], metadata=metadata)
    rows = [
        {"image": {"bytes": each.data if with_bytes else None, "path": each.name}, "label": each.label}
        for each in images
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=rows_in_group)
    return path


def parquet(root: Path, images: Sequence[Labelled]) -> Given:
    middle = len(images) // 2
    for number, some in enumerate([images[middle:], images[:middle]]):
        write_parquet(root / f"validation-{number:05d}-of-00002.parquet", some)
    return Given(root)


LAYOUTS: dict[str, Callable[[Path, Sequence[Labelled]], Given]] = {
    each.__name__: each
    for each in (
        class_folders,
        numbered_folders,
        table,
        caffe,
        kaggle,
        devkit,
        packed_devkit,
        tar_with_table,
        tar_of_folders,
        webdataset,
        webdataset_with_json,
        parquet,
    )
}
