"""What the members of a run are worth one by one, and what all their ensembles are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.results.decisions import Decisions
from ensemble_eval.results.reading import StoredRun
from ensemble_eval.results.score_pass import ScorePass, require_scores
from ensemble_eval.scoring.paired import MARGIN_POINTS, PairedDifference, paired_differences, pairs_with_first
from ensemble_eval.scoring.subset_ranks import Subset, all_subsets
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
