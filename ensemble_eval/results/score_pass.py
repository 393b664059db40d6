"""One pass over the stored scores: ranks in the means of all subsets, and the score vectors of some rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.errors import UnavailableError
from ensemble_eval.evaluation.key import columns_of
from ensemble_eval.results.blocks import blocks
from ensemble_eval.results.decisions import Configuration, Decisions
from ensemble_eval.results.reading import StoredRun
from ensemble_eval.scoring.subset_ranks import Subset, all_subsets, subset_ranks

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
    for block in blocks(results, ["label", "rank", "scores"]):
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
