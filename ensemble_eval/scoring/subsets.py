"""What members contribute to an ensemble: all subsets, greedy selection, leave-one-out and diversity.

All functions take decisions about the same images; `scoring.subset_ranks` computes those of subsets.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.errors import needing_extra
from ensemble_eval.scoring.clusters import Clusters, error_intervals_percent, folds_of
from ensemble_eval.scoring.paired import PairedDifference, paired_differences, readjusted
from ensemble_eval.scoring.subset_ranks import Subset

FOLDS = 5


@dataclass(frozen=True)
class SizeSummary:
    """The errors of all ensembles of one size.

    Attributes:
        size: The number of members in each.
        subsets: The number of ensembles of this size.
        mean_error_percent: Their mean error.
        spread_points: The population standard deviation of their errors, in percentage points; 0 for a single one.
            The ensembles share members and images, so this is not a standard error.
        best, worst: The positions of the members of the best and the worst ensemble, the first of equal ones. They
            are chosen on the images that they are evaluated on, so the error of the best one is optimistic.
        best_error_percent, worst_error_percent: The errors of these two.
    """

    size: int
    subsets: int
    mean_error_percent: float
    spread_points: float
    best: Subset
    best_error_percent: float
    worst: Subset
    worst_error_percent: float


@dataclass(frozen=True)
class GreedySelection:
    """The order in which greedy forward selection adds members, and the errors of the selected members.

    Attributes:
        order: The positions of the members, as selected on all images.
        in_sample_error_percent: For each size, the error of the first members of `order` on the images that they
            were selected on, which is optimistic.
        cross_validated_error_percent: For each size, the error over all images, where the images of each fold are
            evaluated with the members that the other folds select.
    """

    order: Subset
    in_sample_error_percent: tuple[float, ...]
    cross_validated_error_percent: tuple[float, ...]

    @property
    def steps(self) -> Iterator[tuple[int, int, float, float]]:
        """For each size: the size, the member that it adds, its error in sample and its cross-validated error."""
        errors = zip(self.order, self.in_sample_error_percent, self.cross_validated_error_percent, strict=True)
        return ((size, *step) for size, step in enumerate(errors, 1))


@dataclass(frozen=True)
class MemberPair:
    """How differently two members err.

    Attributes:
        one, other: The positions of the members.
        disagreement_percent: The share of images that exactly one of them gets wrong (Kuncheva and Whitaker,
            "Measures of diversity in classifier ensembles", Machine Learning 51, 2003).
        both_wrong_percent: The share of images that both get wrong.
        error_correlation: Pearson's correlation of being wrong (the phi coefficient); None if a member has no
            image, or every image, wrong.
    """

    one: int
    other: int
    disagreement_percent: float
    both_wrong_percent: float
    error_correlation: float | None


@dataclass(frozen=True)
class OneModel:
    """The error of "one model" under several definitions.

    Attributes:
        chosen: The position of the member that the paper's rule names: the lowest one-crop top-1 error.
        chosen_error_percent: The error of that member, which is optimistic.
        cross_fitted_error_percent: The error over all images, where the images of each fold are evaluated with the
            member that the rule names on the other folds; None if there are fewer images than folds.
        first_error_percent: The error of the first member.
        mean_error_percent: The mean error of the members, which no choice makes optimistic.
        spread_points: The population standard deviation of the members' errors, in percentage points; 0 for a
            single one.
        range_percent: The lowest and the highest error of the members.
    """

    chosen: int
    chosen_error_percent: float
    cross_fitted_error_percent: float | None
    first_error_percent: float
    mean_error_percent: float
    spread_points: float
    range_percent: tuple[float, float]


@dataclass(frozen=True)
class MemberErrors:
    """What single members are worth, with one scheme and in one error.

    Attributes:
        one_model: What "one model" may mean.
        diversity: How differently each two members err.
    """

    one_model: OneModel
    diversity: tuple[MemberPair, ...]


@dataclass(frozen=True, eq=False)
class EnsembleErrors:
    """What all ensembles of the members are worth, with one scheme and in one error.

    Attributes:
        subsets: Positions of members, in the order of `all_subsets`.
        wrong: int64 [subsets], the number of images that each gets wrong.
        intervals_percent: The 95% intervals of their errors.
        against_whole: Each compared with the ensemble of all members, without a bootstrap, and None for that one.
            The adjusted p-values are false discovery rates (Benjamini and Yekutieli), because ensembles share
            members and images.
        sizes: Mean, spread, best and worst of each size.
        greedy: The order of greedy selection; None if there are fewer images than folds.
        leave_one_out: The ensemble without each member, in their order, compared with the whole; `other` is 1 +
            the position of the member. Adjusted among each other, without a bootstrap; empty for one member.
    """

    subsets: tuple[Subset, ...]
    wrong: NDArray[np.int64]
    intervals_percent: tuple[tuple[float, float], ...]
    against_whole: tuple[PairedDifference | None, ...]
    sizes: tuple[SizeSummary, ...]
    greedy: GreedySelection | None
    leave_one_out: tuple[PairedDifference, ...]


def member_errors(wrong: NDArray[np.bool_], chosen: int, held_out: NDArray[np.intp] | None) -> MemberErrors:
    """What single members are worth; the arguments are those of `one_model`."""
    return MemberErrors(one_model(wrong, chosen, held_out), tuple(diversity(wrong)))


def held_out_choice(
    wrong: NDArray[np.bool_], *, folds: int = FOLDS, seed: int = 0, clusters: Clusters = None
) -> NDArray[np.intp] | None:
    """For each image, the member with the lowest error on the other folds, the first of equal ones: [images].

    Args:
        wrong: [members, images], whether a member has an image wrong.
        folds, seed, clusters: As in `greedy_selection`.

    Returns:
        None if there are fewer images than folds.
    """
    if wrong.shape[1] < folds:
        return None
    fold_of = folds_of(wrong.shape[1], folds, seed, clusters)
    chosen = [np.count_nonzero(wrong[:, fold_of != fold], axis=1).argmin() for fold in range(folds)]
    return np.array(chosen)[fold_of]


@dataclass(frozen=True)
class RecipeErrors:
    """The errors of members that one recipe trained, as a sample of all networks that it may train.

    The intervals are Student's, for members as random effects. They are about these images and no others.

    Attributes:
        members: The number of members, at least two.
        mean_percent: Their mean error.
        deviation_points: The sample standard deviation of their errors.
        mean_interval_percent: The 95% interval of the mean error of all networks of the recipe.
        next_interval_percent: The 95% prediction interval for one more network of the recipe.
    """

    members: int
    mean_percent: float
    deviation_points: float
    mean_interval_percent: tuple[float, float]
    next_interval_percent: tuple[float, float]


def recipe_errors(wrong: NDArray[np.bool_]) -> RecipeErrors:
    """Summarise the errors of two or more members: [members, images], whether a member has an image wrong."""
    with needing_extra("report"):
        from scipy.stats import t

    errors = _error_percent(wrong)
    count, mean, deviation = len(errors), float(errors.mean()), float(errors.std(ddof=1))
    reach = float(t.ppf(0.975, count - 1)) * deviation
    reaches = reach / math.sqrt(count), reach * math.sqrt(1 + 1 / count)
    of_mean, of_next = ((max(0.0, mean - each), min(100.0, mean + each)) for each in reaches)
    return RecipeErrors(count, mean, deviation, of_mean, of_next)


def ensemble_errors(
    wrong: NDArray[np.bool_],
    subsets: tuple[Subset, ...],
    margin_points: float,
    seed: int,
    clusters: Clusters = None,
) -> EnsembleErrors:
    """What all ensembles of the members are worth.

    Args:
        wrong: [subsets, images], whether an ensemble has an image wrong.
        subsets: Positions of the members of each: all subsets.
        margin_points, clusters: As in `paired_differences`.
        seed: Of the split into folds.
    """
    whole, counts, images = max(subsets, key=len), wrong.sum(axis=1), wrong.shape[1]
    row_of = {subset: row for row, subset in enumerate(subsets)}
    pairs = [(row_of[whole], row) for row in range(len(subsets)) if row != row_of[whole]]
    found = paired_differences(
        wrong, pairs, margin_points=margin_points, resamples=0, clusters=clusters, adjustment="by"
    )
    by_row = {each.other: each for each in found}
    left = [tuple(member for member in whole if member != gone) for gone in whole]
    without_one = [by_row[row_of[subset]] for subset in left if subset]
    return EnsembleErrors(
        subsets,
        counts,
        tuple(error_intervals_percent(wrong, clusters)),
        tuple(by_row.get(row) for row in range(len(subsets))),
        tuple(size_summaries(wrong, subsets)),
        greedy_selection(wrong, subsets, seed=seed, clusters=clusters) if images >= FOLDS else None,
        tuple(readjusted([replace(each, base=0, other=other) for other, each in enumerate(without_one, 1)])),
    )


def size_summaries(wrong: NDArray[np.bool_], subsets: Sequence[Subset]) -> list[SizeSummary]:
    """Mean, spread, best and worst error of the ensembles of each size, sizes ascending.

    Args:
        wrong: [subsets, images], whether an ensemble has an image wrong.
        subsets: The positions of the members of each.

    Example:
        >>> import numpy as np
        >>> wrong = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]], bool)
        >>> [alone, pair] = size_summaries(wrong, [(0,), (1,), (0, 1)])
        >>> alone.mean_error_percent, alone.best, alone.worst_error_percent, pair.mean_error_percent
        (37.5, (1,), 50.0, 25.0)
    """
    errors = _error_percent(wrong)
    sizes = np.array([len(subset) for subset in subsets])
    return [_size_summary(np.flatnonzero(sizes == size), errors, subsets) for size in np.unique(sizes)]


def greedy_selection(
    wrong: NDArray[np.bool_],
    subsets: Sequence[Subset],
    *,
    folds: int = FOLDS,
    seed: int = 0,
    clusters: Clusters = None,
) -> GreedySelection:
    """Add the member that lowers the error most, again and again; of equal members the first.

    The error of an order on the images that it was selected on is optimistic. So the images are split into folds,
    and each fold is evaluated with the members that the other folds select.

    Args:
        wrong: [subsets, images], whether an ensemble has an image wrong.
        subsets: The positions of the members of each; all subsets.
        folds: At least 2, and at most the number of images.
        seed: The seed of the split.
        clusters: The cluster of each image; a fold has whole clusters.
    """
    images = wrong.shape[1]
    row_of = {subset: row for row, subset in enumerate(subsets)}
    order = _greedy_order(wrong.sum(axis=1), row_of)
    fold_of = folds_of(images, folds, seed, clusters)
    held_out_wrong = np.zeros(len(order), int)
    for fold in range(folds):
        held_out = fold_of == fold
        selected = _greedy_order(np.count_nonzero(wrong[:, ~held_out], axis=1), row_of)
        held_out_wrong += np.count_nonzero(wrong[_prefixes(selected, row_of)][:, held_out], axis=1)
    return GreedySelection(
        order,
        tuple(float(error) for error in _error_percent(wrong[_prefixes(order, row_of)])),
        tuple(float(error) for error in 100 * held_out_wrong / images),
    )


def diversity(wrong: NDArray[np.bool_]) -> list[MemberPair]:
    """How differently each two members err, in the order of the members.

    Args:
        wrong: [members, images], whether a member has an image wrong.

    Example:
        >>> import numpy as np
        >>> [pair] = diversity(np.array([[1, 1, 0, 0], [1, 0, 0, 0]], bool))
        >>> pair.disagreement_percent, pair.both_wrong_percent, round(pair.error_correlation, 3)
        (25.0, 25.0, 0.577)
    """
    images = wrong.shape[1]
    both = wrong.astype(np.float64) @ wrong.T.astype(np.float64)
    alone = np.diag(both)
    return [
        MemberPair(
            one,
            other,
            100 * float(alone[one] + alone[other] - 2 * both[one, other]) / images,
            100 * float(both[one, other]) / images,
            _phi(float(both[one, other]), float(alone[one]), float(alone[other]), images),
        )
        for one in range(len(wrong))
        for other in range(one + 1, len(wrong))
    ]


def one_model(wrong: NDArray[np.bool_], chosen: int, held_out: NDArray[np.intp] | None = None) -> OneModel:
    """The error of one model under several definitions.

    Args:
        wrong: [members, images], whether a member has an image wrong.
        chosen: The position of the member that the paper's rule names.
        held_out: As `held_out_choice` returns it.

    Example:
        >>> import numpy as np
        >>> one_model(np.array([[1, 1, 0, 0], [1, 0, 0, 0]], bool), chosen=1).mean_error_percent
        37.5
    """
    errors = _error_percent(wrong)
    return OneModel(
        chosen,
        float(errors[chosen]),
        None if held_out is None else 100 * float(wrong[held_out, np.arange(len(held_out))].mean()),
        float(errors[0]),
        float(errors.mean()),
        float(errors.std()),
        (float(errors.min()), float(errors.max())),
    )


def _error_percent(wrong: NDArray[np.bool_]) -> NDArray[np.float64]:
    percent: NDArray[np.float64] = 100 * np.count_nonzero(wrong, axis=1) / wrong.shape[1]
    return percent


def _size_summary(rows: NDArray[np.intp], errors: NDArray[np.float64], subsets: Sequence[Subset]) -> SizeSummary:
    of_size = errors[rows]
    best, worst = rows[of_size.argmin()], rows[of_size.argmax()]
    return SizeSummary(
        len(subsets[rows[0]]),
        len(rows),
        float(of_size.mean()),
        float(of_size.std()),
        subsets[best],
        float(errors[best]),
        subsets[worst],
        float(errors[worst]),
    )


def _greedy_order(wrong: NDArray[np.integer], row_of: Mapping[Subset, int]) -> Subset:
    members = range(max(map(len, row_of)))
    order: Subset = ()
    for _ in members:
        left = [member for member in members if member not in order]
        order = (*order, min(left, key=lambda member: int(wrong[row_of[tuple(sorted((*order, member)))]])))
    return order


def _prefixes(order: Subset, row_of: Mapping[Subset, int]) -> list[int]:
    """The rows of the first one, two, … members of an order."""
    return [row_of[tuple(sorted(order[: size + 1]))] for size in range(len(order))]


def _phi(both: float, one: float, other: float, images: int) -> float | None:
    """The correlation of two binary variables, from how often both, the one and the other are true."""
    variance = one * (images - one) * other * (images - other)
    return (images * both - one * other) / math.sqrt(variance) if variance else None
