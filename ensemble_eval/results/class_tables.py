"""Tables of errors by class, of confused classes and moved images, and of calibration."""

from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.errors import InputError
from ensemble_eval.members.classes import WNIDS, class_list
from ensemble_eval.results.analyses import Analyses
from ensemble_eval.scoring.calibration import BINS, Reliability, TemperatureFit
from ensemble_eval.scoring.table3 import Configuration
from ensemble_eval.tables.table import Column, FilledColumn, Table, filled_from, table_of

ClassNames = Sequence[str] | None


def class_tables(found: Analyses, names: ClassNames) -> list[Table]:
    """Errors by class, confused classes, and the images that the last row fixes and breaks.

    Args:
        found: The analyses of a run.
        names: The names of the classes; None for their indices.
    """
    classes = found.classes
    tables = []
    for k in classes.errors:
        tables += [_errors_table(found, k, names), _moved_table(found, k)]
    if classes.confused is not None:
        tables.append(_confused_table(found, names))
    return tables


def calibration_tables(found: Analyses) -> list[Table]:
    """Expected calibration errors with the temperatures that would correct them, and the bins of the diagrams."""
    if not found.reliabilities:
        return []
    return [_calibration_table(found), _bins_table(found)]


def class_name(names: ClassNames, index: int) -> str:
    """The name of a class, or its index if names are not known.

    Example:
        >>> class_name(["ant", "bee"], 1), class_name(None, 1)
        ('bee', 'class 1')
    """
    return f"class {index}" if names is None else names[index]


def _errors_table(found: Analyses, k: int, names: ClassNames) -> Table:
    classes = found.classes
    whose = "Yekutieli" if found.decisions.has_dependent_classes else "Hochberg"
    return table_of(
        f"classes_top{k}",
        f"Top-{k} error of each class, {classes.first} and {classes.last}",
        sorted(classes.errors[k], key=lambda each: (each.moved_points, each.class_index)),
        [
            ("class_index", "index", "count", lambda each: each.class_index),
            ("class", "class", "text", lambda each: class_name(names, each.class_index)),
            ("images", "images", "count", lambda each: each.images),
            ("first_error", str(classes.first), "percent", lambda each: each.first_error_percent),
            ("last_error", str(classes.last), "percent", lambda each: each.last_error_percent),
            ("moved", "moved by", "points", lambda each: each.moved_points),
            ("fixed", "fixed", "count", lambda each: each.fixed),
            ("broken", "broken", "count", lambda each: each.broken),
            ("p", "p", "p", lambda each: each.p),
            ("rate", "false discovery rate", "p", lambda each: each.rate),
        ],
        (
            "Classes whose error falls most come first. p is the p-value of the exact test on the images of the "
            "class. Of the classes with a false discovery rate below 5%, at most 5% are expected not to have "
            f"moved (Benjamini and {whose}).",
            *_label_note(found),
        ),
    )


def _moved_table(found: Analyses, k: int) -> Table:
    moved = found.classes.moved[k]
    return Table(
        f"moved_top{k}",
        f"Images that {found.classes.last} fixes and breaks compared with {found.classes.first}, top-{k}",
        (Column("image", "image"), Column("change", "change")),
        (*((image, "broken") for image in moved.broken), *((image, "fixed") for image in moved.fixed)),
        (f"{len(moved.fixed)} fixed, {len(moved.broken)} broken.",),
    )


def _confused_table(found: Analyses, names: ClassNames) -> Table:
    return table_of(
        "confused",
        f"Confused classes of {found.classes.last}, the most images first",
        found.classes.confused or (),
        [
            ("label", "label", "text", lambda each: class_name(names, each.label)),
            ("answered", "best class", "text", lambda each: class_name(names, each.answered)),
            ("images", "images", "count", lambda each: each.images),
            ("images_of_label", "images of the label", "count", lambda each: each.images_of_label),
        ],
        _label_note(found),
    )


def _label_note(found: Analyses) -> Iterator[str]:
    if found.decisions.several_labels is not None:
        yield "An image with several labels is listed under each of them."


def reliability_curves(found: Analyses) -> Iterator[tuple[Configuration, TemperatureFit | None, Reliability]]:
    """Each row of Table 3 with its reliability, and those with a temperature again with the cross-fitted one.

    The first and the last row come first, because the reliability diagram shows them.
    """
    rows = list(found.reliabilities)
    for row in dict.fromkeys((*rows[:1], *rows[-1:])):
        yield row, None, found.reliabilities[row]
    for row, fit in list(found.temperatures.items())[::-1]:
        if fit.cross_fitted is not None:
            yield row, fit, fit.cross_fitted
    for row in rows[1:-1]:
        yield row, None, found.reliabilities[row]


def _calibration_table(found: Analyses) -> Table:
    fitted: list[FilledColumn[TemperatureFit]] = [
        ("temperature", "temperature", "number", lambda fit: fit.temperature),
        ("ece_in_sample", "error after it, in sample", "fraction", lambda fit: _error_of(fit.in_sample)),
        ("ece_cross_fitted", "error after it, cross-fitted", "fraction", lambda fit: _error_of(fit.cross_fitted)),
        ("nll_before", "NLL", "number", lambda fit: fit.nll_before),
        ("nll_cross_fitted", "NLL after it, cross-fitted", "number", lambda fit: fit.nll_cross_fitted),
    ]
    return table_of(
        "calibration",
        "Calibration: confidence in the best class against accuracy",
        [(row, each, found.temperatures.get(row)) for row, each in found.reliabilities.items()],
        [
            ("row", "row", "text", lambda at: str(at[0])),
            ("accuracy", "top-1 accuracy", "fraction", lambda at: at[1].accuracy),
            ("mean_confidence", "mean confidence", "fraction", lambda at: at[1].mean_confidence),
            ("ece", "expected calibration error", "fraction", lambda at: _error_of(at[1])),
            *filled_from(itemgetter(2), fitted),
            ("brier", "Brier score", "fraction", lambda at: at[1].brier_score),
            ("brier_reliability", "its reliability", "fraction", lambda at: at[1].brier_parts[0]),
            ("brier_resolution", "its resolution", "fraction", lambda at: at[1].brier_parts[1]),
            ("brier_uncertainty", "its uncertainty", "fraction", lambda at: at[1].brier_parts[2]),
            ("brier_rest", "within bins", "fraction", lambda at: at[1].brier_parts[3]),
        ],
        (
            f"The expected calibration error has {BINS} bins of equal width from 0 to 1. A temperature above 1 "
            "means overconfidence. It is fitted for the first and the last row; cross-fitted means that each "
            "half of the images uses the temperature fitted to the other half. The Brier score is that of the "
            "best class: reliability - resolution + uncertainty + a remainder within bins.",
        ),
    )


def _error_of(found: Reliability | None) -> float | None:
    return None if found is None else found.expected_calibration_error


def _bins_table(found: Analyses) -> Table:
    bins = [
        (str(row), "as stored" if fit is None else "cross-fitted", each)
        for row, fit, reliability in reliability_curves(found)
        for each in reliability.bins
    ]
    return table_of(
        "reliability",
        "Bins of the reliability diagrams",
        bins,
        [
            ("row", "row", "text", lambda at: at[0]),
            ("scores", "scores", "text", lambda at: at[1]),
            ("low", "from", "fraction", lambda at: at[2].low),
            ("high", "to", "fraction", lambda at: at[2].high),
            ("images", "images", "count", lambda at: at[2].images),
            ("mean_confidence", "mean confidence", "fraction", lambda at: at[2].mean_confidence),
            ("accuracy", "accuracy", "fraction", lambda at: at[2].accuracy),
        ],
    )


def class_names(
    classes: str | Path | Sequence[str] | None, images: Sequence[str], labels: NDArray[np.integer], count: int
) -> list[str] | None:
    """A name for every class, or None if only indices are known.

    Args:
        classes: "imagenet-1k", the names in index order, or a text file of them. None for the names of the class
            folders of the images, if each folder has one label and each label one folder.
        images: Ids; an image with several labels occurs once for each of them.
        labels: [images].
        count: The number of classes of the run.

    Raises:
        InputError: The number of names is not the number of classes of the run.

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
