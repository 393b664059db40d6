"""What classes are called in a report."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.datasets.imagenet import WNIDS
from ensemble_eval.errors import InputError
from ensemble_eval.members.classes import class_list


def class_names(
    classes: str | Path | Sequence[str] | None, images: Sequence[str], labels: NDArray[np.integer], count: int
) -> list[str] | None:
    """A name for every class, or None where they have only indices.

    Args:
        classes: "imagenet-1k", their names in index order, or a text file of them; None for the names of the
            class folders that the images lie in, where each folder has one label and each label one folder.
        images: ids; an image with several labels stands here once for each of them.
        labels: [images].
        count: of the run's classes.

    Raises:
        InputError: there are not as many classes as the run has.

    Example:
        >>> class_names(None, ["ant/1.png", "bee/1.png"], np.array([0, 2]), 3)
        ['ant', 'class 1', 'bee']
    """
    if classes is None:
        return _folder_names(images, labels, count)
    found = class_list(classes)
    if found.count != count:
        raise InputError(f"`classes` names {found.count} classes, and the run has {count}; give those of the run")
    return list(WNIDS if found.names is None else found.names)


def _folder_names(images: Sequence[str], labels: NDArray[np.integer], count: int) -> list[str] | None:
    pairs = {(image.rpartition("/")[0], int(label)) for image, label in zip(images, labels, strict=True)}
    folders = {folder for folder, _ in pairs}
    if "" in folders or not len(pairs) == len(folders) == len({label for _, label in pairs}):
        return None
    by_label = {label: folder for folder, label in pairs}
    return [by_label.get(index, f"class {index}") for index in range(count)]
