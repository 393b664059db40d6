"""Choosing the reader for a data set, given the classes of the ensemble that will see it."""

import re
from pathlib import Path

from ensemble_eval.datasets.class_folders import open_class_folders
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.datasets.labelled_files import open_labelled_files
from ensemble_eval.errors import InputError
from ensemble_eval.members.manifest import ClassList

_WNID = re.compile(r"n\d{8}")


def open_dataset(root: Path, classes: ClassList, labels: Path | None = None) -> Dataset:
    """Open `root` with a labels CSV if one is given, and as class folders if not.

    Raises:
        InputError: see the two readers; also class folders that are not the ensemble's classes.
    """
    if labels is not None:
        return open_labelled_files(root, labels, classes.count, classes.names)
    dataset = open_class_folders(root, classes.names)
    if classes.names is None:
        _require_all_wnids(dataset, classes)
    return dataset


def _require_all_wnids(dataset: Dataset, classes: ClassList) -> None:
    """Indices from sorted WNIDs are right only when every class has its folder, be it empty."""
    names = dataset.class_names or ()
    if len(names) != classes.count or not all(_WNID.fullmatch(name) for name in names):
        raise InputError(
            f"{dataset.root} has {len(names)} class folders, and {classes.source} needs {classes.count} named by "
            "WNID (empty ones included) for their order to give the indices; add the missing folders, "
            "give --labels, or list your classes in the manifest"
        )
