"""Label ranks in the means of stored scores: for all subsets of the members, and for those of some rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.errors import InputError, UnavailableError
from ensemble_eval.evaluation.key import columns_of
from ensemble_eval.members.ensemble import ENSEMBLE_ROWS
from ensemble_eval.results.reading import StoredRun
from ensemble_eval.scoring.metrics import best_rank, counted_of
from ensemble_eval.scoring.subset_ranks import Subset, all_subsets, subset_ranks
from ensemble_eval.scoring.table3 import Configuration, Decisions

# Ranks are kept in a byte; ranks beyond the top 5 need not be exact.
_HIGHEST_RANK = np.iinfo(np.uint8).max
# No member's name contains it.
_AND = "\0"


@dataclass(frozen=True, eq=False)
class ScorePass:
    """The results of one pass over the stored scores.

    Attributes:
        subsets: The positions of members, in the order of `all_subsets`; empty if ranks were not requested.
        ranks: uint8 [schemes, subsets, images], the label rank in the mean of each subset, at most 255.
        scores: float32 [images, classes] of each configuration that was requested.
    """

    subsets: tuple[Subset, ...]
    ranks: NDArray[np.uint8]
    scores: Mapping[Configuration, NDArray[np.float32]]


def require_scores(results: StoredRun, what: str) -> None:
    """Refuse a run that did not store the scores that an analysis needs.

    Args:
        results: The results of the run.
        what: The analysis, as the subject of a sentence in the plural.

    Raises:
        UnavailableError: It says which option stores the scores.
    """
    scope = results.key.scope
    if scope.several_labels or scope.counted_classes is not None:
        raise UnavailableError(
            f"{what} rank one label among all classes, and this run counts "
            f"{'several labels for an image' if scope.several_labels else 'some of the classes only'}"
        )
    if why := _why_no_scores(results, "has none"):
        raise UnavailableError(f"{what} need scores, and {why}")


def _why_no_scores(results: StoredRun, has_none: str) -> str:
    """Why a run has no scores, and how to evaluate it with them; empty if it has."""
    if "scores" in columns_of(results.key):
        return ""
    if results.key.until_decided:
        return (
            f"a run that stops when decided {has_none}; evaluate without `until_decided=True` and with "
            "`store_scores=True`"
        )
    return "this run stored none; evaluate with `store_scores=True`"


def read_scores(
    results: StoredRun,
    decisions: Decisions,
    configurations: Sequence[Configuration] = (),
    *,
    with_subsets: bool = True,
) -> ScorePass:
    """Read all stored scores once, a block of images at a time.

    Single members and the whole ensemble have the ranks that the run stored, so that they agree with Table 3. The
    ranks of other subsets are computed from float32 scores, as in `Results.table3`.

    Args:
        results: The results of a run that stored scores.
        decisions: The decisions of the same run.
        configurations: Rows whose scores are kept in memory: 200 MB each for 50,000 images and 1,000 classes.
        with_subsets: Rank the label in the means of all subsets.
    """
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
            values[block.images] = scores[block.rows[decisions.position(configuration)]]
    return ScorePass(subsets, ranks, kept)


@dataclass(frozen=True)
class Selection:
    """The members of some rows.

    Attributes:
        members: Names, in the order of the ensemble.
        label: Their name in the column `member` of predictions.
        by_name: Whether they were requested by name.
    """

    members: tuple[str, ...]
    label: str
    by_name: bool

    @property
    def is_computed(self) -> bool:
        """Whether their ranks have to be computed, because a run stores no rows for them."""
        return _AND in self.label


def selections_of(
    models: int | Sequence[int | Sequence[str]] | None, members: Sequence[str], one_model: str
) -> list[Selection]:
    """The members of the requested rows, without repetitions, in ascending number of members.

    Args:
        models: As of `Results.table3`.
        members: All members of the run, in order.
        one_model: The member that stands for a single model.

    Raises:
        InputError: More members than there are, an unknown name, or a repeated one.
    """
    if models is None:
        models = [1, len(members)]
    asked = [models] if isinstance(models, int) else list(models)
    if not asked:
        raise InputError("`models` is empty; give numbers of members, or lists of their names")
    found = {}
    for each in asked:
        names = _names(each, members, one_model)
        label = ENSEMBLE_ROWS if len(names) == len(members) > 1 else _AND.join(names)
        found[label] = Selection(names, label, by_name=not isinstance(each, int))
    return sorted(found.values(), key=lambda each: len(each.members))


def schemes_of(crops: int | Sequence[int] | None, stored: Sequence[int]) -> tuple[int, ...]:
    """The requested schemes, ascending.

    Raises:
        InputError: A scheme is not stored.
    """
    if crops is None:
        return tuple(stored)
    asked = [crops] if isinstance(crops, int) else list(crops)
    if not asked or any(each not in stored for each in asked):
        raise InputError(f"`crops` is one or more of {', '.join(map(str, stored))}, not {crops!r}")
    return tuple(sorted(set(asked)))


def computed_ranks(run: StoredRun, selections: Sequence[Selection]) -> NDArray[np.int32]:
    """Label ranks in the mean scores of members, for means that are not stored: [selections, schemes, images].

    Raises:
        InputError: The run stored no scores; the error names the argument that stores them.
    """
    if why := _why_no_scores(run, "stores none"):
        names = ", ".join(selections[0].members)
        raise InputError(f"the rows of {names} need the scores of their members, and {why}")
    ranks = np.empty((len(selections), len(run.crops), len(run.images)), np.int32)
    counted, several = counted_of(run.key.scope), run.key.scope.several_labels
    for block in run.blocks(["labels" if several else "label", "scores"]):
        labels = block.labels
        scores = block.float_matrix("scores")
        for row, selection in enumerate(selections):
            members = [run.members.index(name) for name in selection.members]
            for scheme in range(len(run.crops)):
                mean = scores[block.rows[members, scheme]].mean(axis=0, dtype=np.float64)
                found = [best_rank(*pair, counted) for pair in zip(mean, labels, strict=True)]
                ranks[row, scheme, block.images] = found
    return ranks


def _names(asked: int | Sequence[str], members: Sequence[str], one_model: str) -> tuple[str, ...]:
    if isinstance(asked, str):
        raise InputError(f"`models` has lists of names: [[{asked!r}]], not [{asked!r}]")
    if isinstance(asked, int):
        if isinstance(asked, bool) or not 1 <= asked <= len(members):
            raise InputError(f"`models` is 1 to {len(members)}, or names of {', '.join(members)}; not {asked}")
        return (one_model,) if asked == 1 else tuple(members[:asked])
    if unknown := [name for name in asked if name not in members]:
        raise InputError(f"`models` names {unknown[0]!r}, which is none of the members {', '.join(members)}")
    if not asked or len(set(asked)) < len(asked):
        raise InputError(f"`models` names each member of a row once, not {list(asked)!r}")
    return tuple(name for name in members if name in asked)
