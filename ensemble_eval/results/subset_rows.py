"""Rows of Table 3 for some of the members: which are asked for, and their ranks by stored scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.key import columns_of
from ensemble_eval.members.ensemble import ENSEMBLE_ROWS
from ensemble_eval.results.reading import StoredRun
from ensemble_eval.scoring.metrics import best_rank, counted_of

# No member's name holds it.
_AND = "\0"


@dataclass(frozen=True)
class Selection:
    """The members of some rows.

    Attributes:
        members: names, in the ensemble's order.
        is_all: whether they are all members.
        by_name: whether they were asked for by name.
    """

    members: tuple[str, ...]
    is_all: bool
    by_name: bool

    @property
    def label(self) -> str:
        """What stands for them in the column `member` of predictions."""
        if len(self.members) == 1:
            return self.members[0]
        return ENSEMBLE_ROWS if self.is_all else _AND.join(self.members)

    @property
    def is_computed(self) -> bool:
        """Whether a run stores no rows for them."""
        return _AND in self.label


def selections_of(
    models: int | Sequence[int | Sequence[str]] | None, members: Sequence[str], one_model: str
) -> list[Selection]:
    """What was asked for, in ascending number of members, nothing twice.

    Args:
        models: as of `Results.table3`.
        members: of the run, in order.
        one_model: the member that stands for a single model.

    Raises:
        InputError: more members than there are, an unknown name, or one that stands twice.
    """
    if models is None:
        models = [1, len(members)]
    asked = [models] if isinstance(models, int) else list(models)
    if not asked:
        raise InputError("`models` is empty; give numbers of members, or lists of their names")
    found = [
        Selection(names, len(names) == len(members), by_name=not isinstance(each, int))
        for each in asked
        for names in [_names(each, members, one_model)]
    ]
    return sorted({each.label: each for each in found}.values(), key=lambda each: len(each.members))


def schemes_of(crops: int | Sequence[int] | None, stored: Sequence[int]) -> tuple[int, ...]:
    """The schemes that were asked for, ascending.

    Raises:
        InputError: one is not stored.
    """
    if crops is None:
        return tuple(stored)
    asked = [crops] if isinstance(crops, int) else list(crops)
    if not asked or any(each not in stored for each in asked):
        raise InputError(f"`crops` is one or more of {', '.join(map(str, stored))}, not {crops!r}")
    return tuple(sorted(set(asked)))


def computed_ranks(run: StoredRun, selections: Sequence[Selection]) -> NDArray[np.int32]:
    """Label ranks in the means of members that are not stored: [selections, schemes, images].

    Raises:
        InputError: the run stored no scores; it says which argument keeps them.
    """
    _require_scores(run, selections[0])
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


def _require_scores(run: StoredRun, selection: Selection) -> None:
    if "scores" in columns_of(run.key):
        return
    why = (
        "a run that stops when decided stores none; evaluate without `until_decided=True` and"
        if run.key.until_decided
        else "this run stored none; evaluate"
    )
    raise InputError(
        f"the rows of {', '.join(selection.members)} need the scores of their members, and {why} with "
        "`store_scores=True`"
    )


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
