"""Errors per class and per image, and how far confidence is from accuracy."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.datasets.imagenet import WNIDS
from ensemble_eval.errors import InputError
from ensemble_eval.members.classes import class_list
from ensemble_eval.results.analyses import Analyses
from ensemble_eval.results.decisions import Configuration
from ensemble_eval.scoring.calibration import BINS, Reliability
from ensemble_eval.tables.table import Column, Table

ClassNames = Sequence[str] | None


def class_tables(found: Analyses, names: ClassNames) -> list[Table]:
    """Errors per class, confused classes, and the images that the last row fixes and breaks.

    Args:
        found: of a run.
        names: of the classes; None for their indices.
    """
    classes = found.classes
    tables = []
    for k in classes.errors:
        tables += [_errors_table(found, k, names), _moved_table(found, k)]
    if classes.confused is not None:
        tables.append(_confused_table(found, names))
    return tables


def calibration_tables(found: Analyses) -> list[Table]:
    """Expected calibration errors with the temperatures that would mend them, and the bins behind them."""
    if not found.reliabilities:
        return []
    return [_calibration_table(found), _bins_table(found)]


def class_name(names: ClassNames, index: int) -> str:
    """A class for people: its name, or its index where names are not known.

    Example:
        >>> class_name(["ant", "bee"], 1), class_name(None, 1)
        ('bee', 'class 1')
    """
    return f"class {index}" if names is None else names[index]


def _errors_table(found: Analyses, k: int, names: ClassNames) -> Table:
    classes = found.classes
    moved = sorted(classes.errors[k], key=lambda each: (each.moved_points, each.class_index))
    return Table(
        f"classes_top{k}",
        f"Top-{k} error of each class, {classes.first} and {classes.last}",
        (
            Column("class_index", "index", "count"),
            Column("class", "class"),
            Column("images", "images", "count"),
            Column("first_error", str(classes.first), "percent"),
            Column("last_error", str(classes.last), "percent"),
            Column("moved", "moved by", "points"),
            Column("fixed", "fixed", "count"),
            Column("broken", "broken", "count"),
        ),
        tuple(
            (
                each.class_index,
                class_name(names, each.class_index),
                each.images,
                each.first_error_percent,
                each.last_error_percent,
                each.moved_points,
                each.fixed,
                each.broken,
            )
            for each in moved
        ),
        (
            "Classes whose error falls most stand first. A class has few images, so a single class that moves is "
            "exploration and no finding.",
            *_label_note(found),
        ),
    )


def _moved_table(found: Analyses, k: int) -> Table:
    moved = found.classes.moved[k]
    return Table(
        f"moved_top{k}",
        f"Images that {found.classes.last} fixes and breaks against {found.classes.first}, top-{k}",
        (Column("image", "image"), Column("change", "change")),
        (*((image, "broken") for image in moved.broken), *((image, "fixed") for image in moved.fixed)),
        (f"{len(moved.fixed)} fixed, {len(moved.broken)} broken.",),
    )


def _confused_table(found: Analyses, names: ClassNames) -> Table:
    return Table(
        "confused",
        f"Confused classes of {found.classes.last}, the most images first",
        (
            Column("label", "label"),
            Column("answered", "best class"),
            Column("images", "images", "count"),
            Column("images_of_label", "of the label's", "count"),
        ),
        tuple(
            (class_name(names, each.label), class_name(names, each.answered), each.images, each.images_of_label)
            for each in found.classes.confused or ()
        ),
        tuple(_label_note(found)),
    )


def _label_note(found: Analyses) -> Iterator[str]:
    if found.decisions.several_labels is not None:
        yield "An image with several labels stands under each of them."


def _calibration_table(found: Analyses) -> Table:
    rows = []
    for configuration, stored in found.reliabilities.items():
        fit = found.temperatures.get(configuration)
        after = None if fit is None or fit.cross_fitted is None else fit.cross_fitted.expected_calibration_error
        rows.append(
            (
                str(configuration),
                stored.accuracy,
                stored.mean_confidence,
                stored.expected_calibration_error,
                None if fit is None else fit.temperature,
                None if fit is None else fit.in_sample.expected_calibration_error,
                after,
                None if fit is None else fit.nll_before,
                None if fit is None else fit.nll_cross_fitted,
            )
        )
    return Table(
        "calibration",
        "Calibration: confidence in the best class against accuracy",
        (
            Column("row", "row"),
            Column("accuracy", "top-1 accuracy", "fraction"),
            Column("mean_confidence", "mean confidence", "fraction"),
            Column("ece", "expected calibration error", "fraction"),
            Column("temperature", "temperature", "number"),
            Column("ece_in_sample", "error after it, in sample", "fraction"),
            Column("ece_cross_fitted", "error after it, cross-fitted", "fraction"),
            Column("nll_before", "NLL", "number"),
            Column("nll_cross_fitted", "NLL after it, cross-fitted", "number"),
        ),
        tuple(rows),
        (
            f"The error is over {BINS} bins of equal width from 0 to 1. A temperature above 1 means too sure. "
            "It is fitted for the first and the last row; cross-fitted, each half has that of the other.",
        ),
    )


def _reliabilities(found: Analyses) -> Iterator[tuple[Configuration, str, Reliability]]:
    """What the diagram shows first: the ends as stored, the last after its temperature; then the others."""
    rows = list(found.reliabilities)
    fitted = [(row, each.cross_fitted) for row, each in list(found.temperatures.items())[::-1]]
    for row in dict.fromkeys((rows[0], rows[-1])):
        yield row, "as stored", found.reliabilities[row]
    for row, reliability in fitted:
        if reliability is not None:
            yield row, "cross-fitted", reliability
    for row in rows[1:-1]:
        yield row, "as stored", found.reliabilities[row]


def _bins_table(found: Analyses) -> Table:
    return Table(
        "reliability",
        "Bins of the reliability diagrams",
        (
            Column("row", "row"),
            Column("scores", "scores"),
            Column("low", "from", "fraction"),
            Column("high", "to", "fraction"),
            Column("images", "images", "count"),
            Column("mean_confidence", "mean confidence", "fraction"),
            Column("accuracy", "accuracy", "fraction"),
        ),
        tuple(
            (str(row), what, each.low, each.high, each.images, each.mean_confidence, each.accuracy)
            for row, what, reliability in _reliabilities(found)
            for each in reliability.bins
        ),
    )


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
