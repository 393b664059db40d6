"""What the members of a run are worth one by one, and what all their ensembles are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.errors import UnavailableError
from ensemble_eval.evaluation.key import columns_of
from ensemble_eval.results.reading import StoredRun
from ensemble_eval.scoring.paired import MARGIN_POINTS, PairedDifference, paired_differences, pairs_with_first
from ensemble_eval.scoring.subset_ranks import Subset, all_subsets, subset_ranks
from ensemble_eval.scoring.subsets import (
    FOLDS,
    GreedySelection,
    MemberPair,
    OneModel,
    SizeSummary,
    diversity,
    greedy_selection,
    one_model,
    size_summaries,
    without_one,
)
from ensemble_eval.scoring.table3 import Configuration, Decisions

# Ranks are kept in a byte; one that is no top-5 rank is as good as another.
_HIGHEST_RANK = np.iinfo(np.uint8).max


@dataclass(frozen=True, eq=False)
class ScorePass:
    """What one pass over the stored scores gave.

    Attributes:
        subsets: positions of members, in the order of `all_subsets`; empty where ranks were not asked for.
        ranks: uint8 [schemes, subsets, images], the label's rank in the mean of each subset, 255 for that or more.
        scores: float32 [images, classes] of each configuration that was asked for.
    """

    subsets: tuple[Subset, ...]
    ranks: NDArray[np.uint8]
    scores: Mapping[Configuration, NDArray[np.float32]]


def require_scores(results: StoredRun, what: str) -> None:
    """Refuse a run that did not store what an analysis needs.

    Args:
        results: of the run.
        what: needs them, as the subject of a sentence in the plural.

    Raises:
        UnavailableError: it says which option keeps the scores.
    """
    scope = results.key.scope
    if scope.several_labels or scope.counted_classes is not None:
        raise UnavailableError(
            f"{what} rank one label among all classes, and this run counts "
            f"{'several labels for an image' if scope.several_labels else 'some of the classes only'}"
        )
    if "scores" in columns_of(results.key):
        return
    why = (
        "a run that stops when decided has none; evaluate without `until_decided=True` and"
        if results.key.until_decided
        else "this run stored none; evaluate"
    )
    raise UnavailableError(f"{what} need scores, and {why} with `store_scores=True`")


def read_scores(
    results: StoredRun,
    decisions: Decisions,
    configurations: Sequence[Configuration] = (),
    *,
    with_subsets: bool = True,
) -> ScorePass:
    """Read all stored scores once, a block of images at a time.

    Single members and the whole ensemble have the ranks that the run stored, so that they agree with Table 3.
    Those of other subsets are computed from float32 scores, as `Results.table3` does.

    Args:
        results: of a run that stored scores.
        decisions: of the same run.
        configurations: whose score vectors are kept in memory: 200 MB each for 50,000 images of 1,000 classes.
        with_subsets: whether to rank the label in the means of all subsets.

    Raises:
        UnavailableError: no scores are stored, or there are too many members for all their subsets.
    """
    require_scores(results, "means of some of the members")
    members, images = range(len(results.members)), len(results.images)
    subsets = all_subsets(len(results.members)) if with_subsets else ()
    ranks = np.empty((len(results.crops), len(subsets), images), np.uint8)
    kept = {each: np.empty((images, results.key.classes), np.float32) for each in configurations}
    for block in results.blocks(["label", "rank", "scores"]):
        labels = block.column("label")[0, 0].astype(np.intp)
        scores = block.float_matrix("scores")
        stored = np.minimum(block.column("rank").astype(np.int64), _HIGHEST_RANK)
        for scheme in range(len(results.crops) if with_subsets else 0):
            of_members = scores[block.rows[list(members), scheme]]
            found = np.minimum(subset_ranks(of_members, labels), _HIGHEST_RANK)
            found[: len(members)], found[-1] = stored[: len(members), scheme], stored[-1, scheme]
            ranks[scheme][:, block.images] = found
        for configuration, values in kept.items():
            values[block.images] = scores[block.rows[decisions.place(configuration)]]
    return ScorePass(subsets, ranks, kept)


@dataclass(frozen=True, eq=False)
class MemberErrors:
    """What the members are worth one by one, with one scheme and in one error.

    Attributes:
        wrong: int64 [members], images that each has wrong.
        one_model: what one model may mean.
        diversity: how differently each two members err.
    """

    wrong: NDArray[np.int64]
    one_model: OneModel
    diversity: tuple[MemberPair, ...]


@dataclass(frozen=True, eq=False)
class EnsembleErrors:
    """What all ensembles of a run's members are worth, with one scheme and in one error.

    Attributes:
        subsets: positions of members, in the order of `all_subsets`.
        wrong: int64 [subsets], images that each has wrong.
        sizes: mean, spread, best and worst of each size.
        greedy: the order of greedy selection; None where there are fewer images than folds.
        leave_one_out: the ensemble without each member, in their order, against the whole: `other` is 1 + the
            member's position. Adjusted among each other, without a bootstrap; empty for one member.
    """

    subsets: tuple[Subset, ...]
    wrong: NDArray[np.int64]
    sizes: tuple[SizeSummary, ...]
    greedy: GreedySelection | None
    leave_one_out: tuple[PairedDifference, ...]


def require_subsets(results: StoredRun) -> None:
    """Refuse a run of whose members not all ensembles can be formed.

    Raises:
        UnavailableError: no scores are stored, or there are too many members.
    """
    all_subsets(len(results.members))
    require_scores(results, "ensembles of some of the members")


def member_errors(decisions: Decisions, k: int, crops: int) -> MemberErrors:
    """What the members are worth one by one, with one scheme.

    Args:
        decisions: of a run.
        k: 5 or 1.
        crops: the scheme.

    Raises:
        UnavailableError: the run stopped before it knew these decisions.
    """
    decisions.require_known(k)
    wrong = decisions.wrong[k][: len(decisions.members), decisions.crops.index(crops)]
    chosen = decisions.members.index(decisions.one_model_member)
    return MemberErrors(wrong.sum(axis=1), one_model(wrong, chosen), tuple(diversity(wrong)))


def ensemble_errors(
    scores: ScorePass,
    decisions: Decisions,
    k: int,
    crops: int,
    *,
    margin_points: float = MARGIN_POINTS,
    seed: int = 0,
) -> EnsembleErrors:
    """What all ensembles of the members are worth, with one scheme.

    Args:
        scores: of a pass with subsets: `read_scores(results, decisions)`.
        decisions: of the same run.
        k: 5 or 1.
        crops: the scheme.
        margin_points: within which two errors count as equal, in percentage points.
        seed: of the split into folds.
    """
    wrong = scores.ranks[decisions.crops.index(crops)] >= k
    left = without_one(wrong, scores.subsets) if len(decisions.members) > 1 else wrong
    pairs = pairs_with_first(len(left))
    return EnsembleErrors(
        scores.subsets,
        wrong.sum(axis=1),
        tuple(size_summaries(wrong, scores.subsets)),
        greedy_selection(wrong, scores.subsets, seed=seed) if wrong.shape[1] >= FOLDS else None,
        tuple(paired_differences(left, pairs, margin_points=margin_points, resamples=0)),
    )
