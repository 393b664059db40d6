"""The errors of a run under other labels, from the five best classes of each image that it stored."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.datasets.ilsvrc import read_blacklist, validation_number
from ensemble_eval.datasets.labels import read_label_file
from ensemble_eval.errors import InputError, UnavailableError
from ensemble_eval.results.analyses import Analyses
from ensemble_eval.results.reading import StoredRun
from ensemble_eval.scoring.clusters import error_intervals_percent
from ensemble_eval.scoring.table3 import TOP_1, TOP_5, Decisions
from ensemble_eval.tables.table import Column, Table, Value

# No class has these indices.
_NO_LABEL, _NO_CLASS = -1, -2
_OWN = "of the run"


def label_table(
    results: StoredRun, found: Analyses, files: Sequence[Path], names: Sequence[str] | None, blacklist: Path | None
) -> Table:
    """Return the errors of the rows of Table 3, and their order, under the labels of the run and of some files.

    Args:
        results: The results of a run.
        found: Its analyses.
        files: Files of labels, of any kind that `run --labels` reads. Images without a label do not count.
        names: The names of the classes, for files that name them.
        blacklist: A file of validation images to leave out, in further lines for the labels of the run.

    Raises:
        UnavailableError: The run stored no best classes.
        InputError: A file cannot be read, or has no label for any image of the run.
    """
    best = _best_classes(results, found.decisions)
    own = _label_matrix(found.decisions.several_labels or ((label,) for label in found.decisions.labels.tolist()))
    sets = {_OWN: own}
    if blacklist is not None:
        numbers = read_blacklist(blacklist)
        listed = np.array([validation_number(image) in numbers for image in results.images])
        sets[f"{_OWN}, without {blacklist.name}"] = np.where(listed[:, None], _NO_LABEL, own)
    for path in files:
        labels = read_label_file(path, names or [f"class {index}" for index in range(results.key.classes)])
        keys = [labels.key_of(image) for image in results.images]
        sets[str(path) if path.name in sets else path.name] = _label_matrix(
            labels.by_key.get(key, ()) if key else () for key in keys
        )
    lines = {
        (name, k): list(_lines(name, k, labels, own, best, found))
        for k in (TOP_5, TOP_1)
        for name, labels in sets.items()
    }
    orders = {name: [line[-1] for line in lines[name, TOP_5]] for name in sets}
    changed = [name for name in sets if orders[name] != orders[_OWN]]
    order = f"differs with the labels {', '.join(changed)}" if changed else "is the same with all labels"
    return Table(
        "labels",
        "Errors under other labels",
        (
            Column("error_of", "error of"),
            Column("labels", "labels"),
            Column("row", "row"),
            Column("images", "images", "count"),
            Column("error", "error", "percent"),
            Column("error", "95% interval", "percent interval"),
            Column("own_error", "with the labels of the run, on the same images", "percent"),
            Column("order", "order", "count"),
        ),
        tuple(line for of_set in lines.values() for line in of_set),
        (
            "An image is right if any of its labels is among the k best classes. Images without a label do not "
            f"count. The order of the rows by top-5 error {order}.",
        ),
    )


def _best_classes(results: StoredRun, decisions: Decisions) -> NDArray[np.int32]:
    """The best classes of each row and image, best first: [rows, images, 5]."""
    if results.key.until_decided:
        raise UnavailableError(
            "errors under other labels need the five best classes, which a run that stops when decided does not "
            "store; evaluate without `until_decided=True`"
        )
    positions = [decisions.position(each) for each in decisions.configurations]
    best = np.full((len(positions), len(results.images), TOP_5), _NO_CLASS, np.int32)
    for block in results.blocks(["top5"]):
        stored = block.matrix("top5")
        for row, position in enumerate(positions):
            best[row, block.images, : stored.shape[1]] = stored[block.rows[position]]
    return best


def _label_matrix(labels: Iterable[Sequence[int]]) -> NDArray[np.int32]:
    """The labels of each image, padded: [images, the most labels of an image]."""
    of_images = list(labels)
    matrix = np.full((len(of_images), max(1, *map(len, of_images))), _NO_LABEL, np.int32)
    for image, each in enumerate(of_images):
        matrix[image, : len(each)] = each
    return matrix


def _lines(
    name: str, k: int, labels: NDArray[np.int32], own: NDArray[np.int32], best: NDArray[np.int32], found: Analyses
) -> Iterator[tuple[Value, ...]]:
    counted = (labels != _NO_LABEL).any(axis=1)
    if not counted.any():
        raise InputError(f"{name} has no label for any image of the run; is it the right file?")
    clusters = found.decisions.clusters
    some = None if clusters is None else np.unique(clusters[counted], return_inverse=True)[1]
    wrong, own_wrong = (_wrong(best[:, counted, :k], each[counted]) for each in (labels, own))
    counts, images, intervals = wrong.sum(axis=1), wrong.shape[1], error_intervals_percent(wrong, some)
    for row, configuration in enumerate(found.configurations):
        errors = 100 * int(counts[row]) / images, intervals[row], 100 * float(own_wrong[row].mean())
        order = 1 + int(np.count_nonzero(counts < counts[row]))
        yield f"top-{k}", name, str(configuration), images, *errors, order


def _wrong(best: NDArray[np.int32], labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether none of an image's labels is among its best classes: [rows, images]."""
    right: NDArray[np.bool_] = (best[..., None] == labels[None, :, None, :]).any(axis=(2, 3))
    return ~right
