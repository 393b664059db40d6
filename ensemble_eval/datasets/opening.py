"""Choosing the reader for a data set, given the classes of the ensemble that will see it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ensemble_eval.datasets.class_folders import open_class_folders
from ensemble_eval.datasets.imagenet import WNIDS
from ensemble_eval.datasets.items import NO_LABEL, Dataset
from ensemble_eval.datasets.label_files import is_plain_table, read_label_file
from ensemble_eval.datasets.labelled_files import open_files, open_labelled_files
from ensemble_eval.datasets.labels import labelled
from ensemble_eval.datasets.parquet_files import open_parquet
from ensemble_eval.datasets.recognition import Found, recognise
from ensemble_eval.datasets.selection import part_of, without_blacklist
from ensemble_eval.datasets.tar_files import open_tar
from ensemble_eval.datasets.webdataset import open_webdataset
from ensemble_eval.errors import InputError
from ensemble_eval.fields import Rule, checked_value
from ensemble_eval.members.classes import ClassList, class_list
from ensemble_eval.settings import UNLABELLED, DataSettings, Layout, SubsetClasses


def open_dataset(
    root: str | Path,
    classes: str | Path | Sequence[str] | ClassList,
    labels: str | Path | None = None,
    *,
    layout: Layout = "auto",
    blacklist: str | Path | None = None,
    subset_classes: SubsetClasses = "all",
    limit: int | None = None,
    sample: int | None = None,
    seed: int | None = None,
    leaving_out: str | Path | None = None,
) -> Dataset:
    """Open labelled images in whichever of the known layouts they lie; nothing is unpacked or changed.

    Args:
        root: a folder of class folders, or of images with `labels`; a tar archive of either; shards of WebDataset
            or Parquet files: their folder, one of them, or a pattern such as `val-{000..127}.tar`.
        classes: those of the ensemble: "imagenet-1k", their names in index order, a text file of them, or
            `Ensemble.classes`. Class folders of imagenet-1k are named by WNID; any of them may be missing.
        labels: where they stand, if not in the data set: a CSV with the header `file,label`, whose labels are
            0-based class indices or names; Caffe's `val.txt`; Kaggle's `LOC_val_solution.csv`; a JSON list with a
            list of class indices for each validation image; ILSVRC-2012's development kit. "none" for images
            without labels. None for what lies in the data set.
        layout: how to read `root`: `class-folders`, `files`, `tar`, `webdataset`, `parquet`, or `auto`.
        blacklist: a text file of places among the sorted validation images, from 1 on, which are left out.
        subset_classes: where the images are of some classes only, whether labels are ranked among `all` classes of
            the ensemble, or among those of the `dataset`.
        limit: take the first so many images, in the order of their ids.
        sample: take so many images, drawn with `seed`.
        seed: of `sample`; None for 0.
        leaving_out: the output folder, which may lie in the data set and takes no part in it.

    Raises:
        InputError: there are no images, class folders that are not among the classes, labels that do not match the
            images, an archive that is damaged, or a data set that is the output folder itself.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("ant", "bee"):
        ...     (root / name).mkdir()
        ...     _ = (root / name / "1.jpeg").write_bytes(b"an image")
        >>> [(item.id, item.label) for item in open_dataset(root, ["ant", "bee"]).items]
        [('ant/1.jpeg', 0), ('bee/1.jpeg', 1)]
        >>> open_dataset(root, ["ant", "bee"], limit=1).scope.part
        'the first 1 of 2 images'
    """
    asked = DataSettings(
        labels=labels,  # type: ignore[arg-type]  # made a path, as the blacklist
        layout=layout,
        blacklist=blacklist,  # type: ignore[arg-type]
        subset_classes=subset_classes,
        limit=limit,
        sample=sample,
        seed=seed,
    )
    place: Path = checked_value(Path, "`root`", root, Rule(words="the path of a data set"))
    classes = class_list(classes)
    names = WNIDS if classes.names is None else classes.names
    elsewhere = None if leaving_out is None else _folder_to_leave_out(place, Path(leaving_out))
    found = recognise(place, names, layout, has_labels=labels is not None, leaving_out=elsewhere)
    if labels is None and found.labels is not None:
        labels = found.labels
    dataset = _read(found, classes.count, names, labels, elsewhere)
    # Those of the whole data set, whatever part of it is taken.
    counted = _counted_classes(dataset, subset_classes, classes.count)
    if asked.blacklist is not None:
        dataset = without_blacklist(dataset, asked.blacklist)
    dataset = part_of(dataset, limit, sample, seed)
    return replace(dataset, scope=replace(dataset.scope, counted_classes=counted))


def _read(
    found: Found, num_classes: int, names: Sequence[str], labels: str | Path | None, leaving_out: Path | None
) -> Dataset:
    """All images, with the labels that lie among them or elsewhere."""
    elsewhere = None if labels is None or str(labels) == UNLABELLED else Path(labels)
    if found.layout == "class-folders" and labels is None:
        return open_class_folders(found.files[0], names, leaving_out=leaving_out)
    if found.layout in ("class-folders", "files") and elsewhere is not None and is_plain_table(elsewhere):
        return open_labelled_files(found.files[0], elsewhere, num_classes, names, leaving_out=leaving_out)
    if found.layout in ("class-folders", "files"):
        dataset = open_files(found.files[0], names, leaving_out=leaving_out)
    elif found.layout == "tar":
        dataset = open_tar(found.files[0], names, with_folders=labels is None, index=found.first)
    elif found.layout == "webdataset":
        dataset = open_webdataset(found.files, num_classes, names, labelled=labels is None, first=found.first)
    else:
        dataset = open_parquet(found.files, num_classes, names, labelled=labels is None)
    if elsewhere is not None:
        return labelled(dataset, read_label_file(elsewhere, num_classes, names))
    if labels is not None:
        return replace(
            dataset, layout=f"{dataset.layout}, without labels", scope=replace(dataset.scope, labelled=False)
        )
    return dataset


def _counted_classes(dataset: Dataset, rule: SubsetClasses, num_classes: int) -> tuple[int, ...] | None:
    """The classes among which labels are ranked; None for all."""
    if rule == "all":
        return None
    if not dataset.scope.labelled:
        raise InputError('`subset_classes="dataset"` needs labels, which say what the data set\'s classes are')
    there = {label for item in dataset.items for label in dataset.labels_of(item.id, item.label)} - {NO_LABEL}
    return None if len(there) == num_classes else tuple(sorted(there))


def _folder_to_leave_out(root: Path, out: Path) -> Path | None:
    """The output folder, resolved; None if the data set lies in it, so that it cannot be in the data set."""
    images, results = root.resolve(), out.resolve()
    if images == results:
        raise InputError(
            f'`out="{out}"` is the data set itself, and its files would mix with the images; choose another '
            "folder, which may be one inside it"
        )
    return None if results in images.parents else results
