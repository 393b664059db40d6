"""Choosing the reader for a data set, given the classes of the ensemble that will see it."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ensemble_eval.datasets.folders import open_class_folders, open_files
from ensemble_eval.datasets.ilsvrc import read_blacklist, refuse_unnumbered, validation_number
from ensemble_eval.datasets.items import NO_LABEL, Dataset, keeping, without
from ensemble_eval.datasets.labels import labelled, read_label_file
from ensemble_eval.datasets.listing import list_bucket
from ensemble_eval.datasets.parquet_files import open_parquet
from ensemble_eval.datasets.recognition import Found, recognise
from ensemble_eval.datasets.tar import open_tar
from ensemble_eval.datasets.webdataset import open_webdataset
from ensemble_eval.errors import InputError
from ensemble_eval.fields import Rule, checked_value
from ensemble_eval.locations import ObjectPath, location
from ensemble_eval.members.classes import WNIDS, ClassList, class_list
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
    listed_in: str | Path | None = None,
    as_listed: bool = False,
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
            without labels. None for the labels of the data set itself.
        layout: how to read `root`: `class-folders`, `files`, `tar`, `webdataset`, `parquet`, or `auto`.
        blacklist: a text file of places among the sorted validation images, from 1 on, which are left out.
        subset_classes: where the images are of some classes only, whether labels are ranked among `all` classes of
            the ensemble, or among those of the `dataset`.
        limit: take the first so many images, in the order of their ids.
        sample: take so many images, drawn with `seed`.
        seed: of `sample`; None for 0.
        leaving_out: the output folder, which may be inside the data set and is no part of it.
        listed_in: the output folder of an earlier start, which may have the listing of a data set in a bucket.
        as_listed: take that listing as it is, because another process of the job has just made it.

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
        labels=labels,  # type: ignore[arg-type]  # made a path
        layout=layout,
        blacklist=blacklist,  # type: ignore[arg-type]  # made a path
        subset_classes=subset_classes,
        limit=limit,
        sample=sample,
        seed=seed,
    )
    place: Path = checked_value(Path, "`root`", root, Rule(words="the path of a data set"))
    return read_dataset(place, class_list(classes), asked, leaving_out, listed_in, as_listed=as_listed)


def read_dataset(
    root: Path,
    classes: ClassList,
    asked: DataSettings,
    leaving_out: str | Path | None = None,
    listed_in: str | Path | None = None,
    *,
    as_listed: bool = False,
) -> Dataset:
    """As `open_dataset`, of settings that are checked already."""
    if isinstance(root, ObjectPath) and root.tree is None:
        listing = list_bucket(root, None if listed_in is None else location(listed_in), as_listed=as_listed)
        root = root.at(root.key)
        root.tree = listing.tree
        dataset = read_dataset(root, classes, asked, leaving_out)
        listing.tree.recording = False
        return replace(dataset, listing=listing)
    names = WNIDS if classes.names is None else classes.names
    elsewhere = None if leaving_out is None else _folder_to_leave_out(root, location(leaving_out))
    found = recognise(root, names, asked.layout, has_labels=asked.labels is not None, leaving_out=elsewhere)
    dataset = _read(found, names, asked.labels or found.labels, elsewhere)
    # Those of the whole data set, whatever part of it is taken.
    counted = _counted_classes(dataset, asked.subset_classes, classes.count)
    if asked.blacklist is not None:
        dataset = _without_blacklist(dataset, asked.blacklist)
    dataset = _part_of(dataset, asked)
    return replace(dataset, scope=replace(dataset.scope, counted_classes=counted))


def _read(found: Found, names: Sequence[str], labels: Path | None, leaving_out: Path | None) -> Dataset:
    """All images, with the labels of the data set itself or of another source."""
    own = labels is None
    elsewhere = None if labels is None or str(labels) == UNLABELLED else read_label_file(labels, names)
    root = found.files[0]
    if found.layout == "class-folders" and own:
        dataset = open_class_folders(root, names, leaving_out=leaving_out)
    elif found.layout == "tar" and found.first is not None:
        dataset = open_tar(root, names, with_folders=own, index=found.first)
    elif found.layout == "webdataset":
        dataset = open_webdataset(found.files, names, labelled=own, first=found.first)
    elif found.layout == "parquet":
        dataset = open_parquet(found.files, names, labelled=own)
    else:
        listed = elsewhere.by_key if elsewhere is not None and elsewhere.of_files else ()
        dataset = open_files(root, names, listed=listed, leaving_out=leaving_out)
    if elsewhere is not None:
        return labelled(dataset, elsewhere, root if found.layout in ("class-folders", "files") else None)
    if own:
        return dataset
    return replace(
        dataset, layout=f"{dataset.layout}, without labels", scope=replace(dataset.scope, labelled=False)
    )


def _counted_classes(dataset: Dataset, rule: SubsetClasses, num_classes: int) -> tuple[int, ...] | None:
    """The classes among which labels are ranked; None for all."""
    if rule == "all":
        return None
    if not dataset.scope.labelled:
        raise InputError('`subset_classes="dataset"` needs labels, which say what the data set\'s classes are')
    there = {label for item in dataset.items for label in dataset.labels_of(item.id, item.label)} - {NO_LABEL}
    return None if len(there) == num_classes else tuple(sorted(there))


def _without_blacklist(dataset: Dataset, blacklist: Path) -> Dataset:
    """A data set of ILSVRC-2012's validation images without those on the development kit's blacklist.

    Raises:
        InputError: the list cannot be used, an image's name has no number, or no image is left.
    """
    numbers = read_blacklist(blacklist)
    strange = [item.id for item in dataset.items if validation_number(item.id) is None]
    refuse_unnumbered("the blacklist", strange, "leave `blacklist` out")
    rest = without(dataset, "are on the blacklist", lambda item: validation_number(item.id) not in numbers)
    if not rest.items:
        raise InputError(f"all images are on the blacklist {blacklist}; is it the right file?")
    return rest


def _part_of(dataset: Dataset, asked: DataSettings) -> Dataset:
    """The first images in the order of their ids, or some that a seed draws; all where neither is asked for.

    A larger sample of the same seed holds every smaller one.
    """
    images = len(dataset.items)
    for name, count in (("limit", asked.limit), ("sample", asked.sample)):
        if count is not None and count > images:
            raise InputError(f"`{name}` is 1 to {images}, the images that there are, not {count}")
    if asked.limit is not None:
        chosen, part = list(range(asked.limit)), f"the first {asked.limit} of {images} images"
    elif asked.sample is not None:
        seed = asked.seed or 0
        drawn = sorted(range(images), key=lambda place: hashlib.sha256(f"{seed} {place}".encode()).digest())
        chosen, part = drawn[: asked.sample], f"{asked.sample} of {images} images, drawn with the seed {seed}"
    else:
        return dataset
    ids = {dataset.items[place].id for place in chosen}
    taken = keeping(dataset, lambda item: item.id in ids)
    return replace(taken, scope=replace(taken.scope, part=part))


def _folder_to_leave_out(root: Path, out: Path) -> Path | None:
    """The output folder, resolved; None if the data set is inside it, so that it cannot be in the data set."""
    images, results = root.resolve(), out.resolve()
    if images == results:
        raise InputError(
            f'`out="{out}"` is the data set itself, and its files would mix with the images; choose another '
            "folder, which may be one inside it"
        )
    return None if results in images.parents else results
