"""The errors of each class, confused classes, and images that a row of the table fixes and breaks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.scoring.clusters import Clusters, cluster_sums
from ensemble_eval.scoring.paired import adjusted, exact_mcnemar_p, sign_flip_p
from ensemble_eval.scoring.table3 import TOP_1, TOP_5, Configuration, Decisions


@dataclass(frozen=True)
class ClassErrors:
    """The errors of two rows on the images of one class.

    Attributes:
        class_index: The label of these images.
        images: The number of images, at least one.
        first_wrong, last_wrong: The number of images that each row gets wrong.
        fixed: The number of images that the first row gets wrong and the last gets right.
        broken: The number of images that the first row has right and the last wrong.
        p: The p-value of the exact test that the rows differ on this class.
        rate: Its false discovery rate among all classes: Benjamini and Hochberg's, or Benjamini and Yekutieli's if
            an image may be of several classes or images are in clusters, so that the tests are dependent.
    """

    class_index: int
    images: int
    first_wrong: int
    last_wrong: int
    fixed: int
    broken: int
    p: float = 1.0
    rate: float = 1.0

    @property
    def first_error_percent(self) -> float:
        """The error of the first row on this class."""
        return 100 * self.first_wrong / self.images

    @property
    def last_error_percent(self) -> float:
        """The error of the last row on this class."""
        return 100 * self.last_wrong / self.images

    @property
    def moved_points(self) -> float:
        """The error of the last row minus that of the first, in percentage points; negative is better."""
        return 100 * (self.last_wrong - self.first_wrong) / self.images


@dataclass(frozen=True)
class ConfusedPair:
    """Images of one class whose best class is another.

    Attributes:
        label: The class of the images.
        answered: The class with the best score.
        images: The number of these images.
        images_of_label: The number of all images of the class.
    """

    label: int
    answered: int
    images: int
    images_of_label: int


@dataclass(frozen=True)
class Moved:
    """The ids of the images that the last row fixes and breaks, sorted.

    Attributes:
        fixed: The first row has these images wrong, and the last has them right.
        broken: The first row has these images right, and the last has them wrong.
    """

    fixed: tuple[str, ...]
    broken: tuple[str, ...]


@dataclass(frozen=True)
class ClassAnalysis:
    """Classes and images of the last row of Table 3, compared with its first.

    Attributes:
        first, last: The two rows.
        errors: By k, the errors of each class, classes ascending; only for errors that both rows know.
        moved: By k, the images that the last row fixes and breaks.
        confused: The confused pairs of the last row; None if the run stored no best classes.
    """

    first: Configuration
    last: Configuration
    errors: Mapping[int, tuple[ClassErrors, ...]]
    moved: Mapping[int, Moved]
    confused: tuple[ConfusedPair, ...] | None


def class_analysis(decisions: Decisions) -> ClassAnalysis:
    """Compare the last row of Table 3 with its first by class and by image.

    An image with several labels counts under each of its classes.
    """
    first, last = decisions.configurations[0], decisions.configurations[-1]
    at_first, at_last = decisions.position(first), decisions.position(last)
    images, labels = decisions.each_label
    clusters = None if decisions.clusters is None else decisions.clusters[images]
    errors, moved, confused = {}, {}, None
    for k in (TOP_5, TOP_1):
        if decisions.is_known[k][at_first] and decisions.is_known[k][at_last]:
            wrong = decisions.wrong[k][at_first], decisions.wrong[k][at_last]
            counted = errors_by_class(labels, wrong[0][images], wrong[1][images])
            p = _p_values(counted, labels, (wrong[1].astype(np.int8) - wrong[0])[images], clusters)
            rates = adjusted(p, "by" if decisions.has_dependent_classes else "bh")
            tested = zip(counted, p.tolist(), rates, strict=True)
            errors[k] = tuple(replace(each, p=p_value, rate=rate) for each, p_value, rate in tested)
            moved[k] = moved_images(decisions.images, *wrong)
    if decisions.answered is not None:
        best, is_wrong = decisions.answered[at_last], decisions.wrong[TOP_1][at_last]
        confused = tuple(confused_pairs(labels, best[images], is_wrong[images]))
    return ClassAnalysis(first, last, errors, moved, confused)


def _p_values(
    errors: Sequence[ClassErrors], labels: NDArray[np.integer], moved: NDArray[np.int8], clusters: Clusters
) -> NDArray[np.float64]:
    if clusters is None:
        return exact_mcnemar_p(
            np.array([each.fixed for each in errors]), np.array([each.broken for each in errors])
        )
    of_classes = (np.flatnonzero(labels == each.class_index) for each in errors)
    sums = (cluster_sums(moved[at], np.unique(clusters[at], return_inverse=True)[1]) for at in of_classes)
    return np.array([sign_flip_p(each[None])[0] for each in sums])


def errors_by_class(
    labels: NDArray[np.integer], first_wrong: NDArray[np.bool_], last_wrong: NDArray[np.bool_]
) -> list[ClassErrors]:
    """The errors of two rows for each class that has images, classes ascending.

    Args:
        labels: [images]; an image with several labels occurs once for each of them.
        first_wrong, last_wrong: [images], whether each row has an image wrong.

    Example:
        >>> import numpy as np
        >>> [cat, dog] = errors_by_class(np.array([3, 3, 8]), np.array([1, 1, 0], bool), np.array([1, 0, 0], bool))
        >>> cat.class_index, cat.images, cat.moved_points, dog.first_error_percent
        (3, 2, -50.0, 0.0)
    """
    if not len(labels):
        return []
    everything = np.ones(len(labels), bool)
    fixed, broken = first_wrong & ~last_wrong, last_wrong & ~first_wrong
    columns = [everything, first_wrong, last_wrong, fixed, broken]
    counts = np.stack([np.bincount(labels[column], minlength=labels.max() + 1) for column in columns])
    return [ClassErrors(int(each), *map(int, counts[:, each])) for each in np.flatnonzero(counts[0])]


def confused_pairs(
    labels: NDArray[np.integer], answered: NDArray[np.integer], is_wrong: NDArray[np.bool_]
) -> list[ConfusedPair]:
    """The pairs of label and best class of the wrong images, those of most images first, then by label and class.

    Args:
        labels: [images]; an image with several labels occurs once for each of them.
        answered: [images], the class with the best score.
        is_wrong: [images], whether that class is none of the image's labels.

    Example:
        >>> import numpy as np
        >>> labels, answered = np.array([0, 0, 1, 1]), np.array([1, 1, 1, 0])
        >>> confused_pairs(labels, answered, labels != answered)[0]
        ConfusedPair(label=0, answered=1, images=2, images_of_label=2)
    """
    pairs, counts = np.unique(np.stack([labels[is_wrong], answered[is_wrong]], axis=1), axis=0, return_counts=True)
    images_of = np.bincount(labels)
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -counts))
    return [
        ConfusedPair(int(label), int(best), int(count), int(images_of[label]))
        for (label, best), count in zip(pairs[order], counts[order], strict=True)
    ]


def moved_images(images: Sequence[str], first_wrong: NDArray[np.bool_], last_wrong: NDArray[np.bool_]) -> Moved:
    """The images that the last row fixes and breaks.

    Args:
        images: Ids, sorted.
        first_wrong, last_wrong: [images], whether each row has an image wrong, in the same order.
    """
    return Moved(
        tuple(images[int(each)] for each in np.flatnonzero(first_wrong & ~last_wrong)),
        tuple(images[int(each)] for each in np.flatnonzero(last_wrong & ~first_wrong)),
    )
