"""Which members carry the ensemble: every subset, greedy selection, leave-one-out, diversity, and one model."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from ensemble_eval.results.analyses import Analyses
from ensemble_eval.results.row_tables import DIFFERENCE_COLUMNS, difference_cells, tests_note
from ensemble_eval.scoring.statistics import error_interval_percent
from ensemble_eval.scoring.subsets import FOLDS
from ensemble_eval.tables.table import Column, Table

_Found = TypeVar("_Found")
_WHERE = (Column("error_of", "error of"), Column("crops", "crops", "count"))
# Of all members, or of all their ensembles of a size; both tables have the same for one member at a time.
_SPREAD = Column("spread", "population standard deviation", "number")
_CHOSEN_AFTERWARDS = (
    "Best and worst are chosen after the fact, on the images that they are scored on: exploration, and the best "
    "flatters itself. The ensembles share members and images, so the spread is no standard error."
)


def member_tables(found: Analyses) -> list[Table]:
    """All tables about members and their ensembles that a run allows; what cannot be had is in `unavailable`."""
    tables = [one_model_table(found)]
    if len(found.decisions.members) > 1:
        tables.append(diversity_table(found))
    if found.ensembles:
        tables += [sizes_table(found), subsets_table(found), greedy_table(found), left_out_table(found)]
    return [table for table in tables if table.rows]


def one_model_table(found: Analyses) -> Table:
    """What one model may mean: the paper's rule, the first member, and the mean over the members."""
    names = found.decisions.members
    rows = tuple(
        (
            f"top-{k}",
            crops,
            names[each.chosen],
            each.chosen_error_percent,
            names[0],
            each.first_error_percent,
            each.mean_error_percent,
            each.spread_points,
            (each.low_error_percent, each.high_error_percent),
        )
        for (k, crops), members in _largest_first(found.members)
        for each in [members.one_model]
    )
    return Table(
        "one_model",
        "What one model may mean",
        (
            *_WHERE,
            Column("chosen", "paper's rule"),
            Column("chosen_error", "rule's error", "percent"),
            Column("first", "first member"),
            Column("first_error", "first's error", "percent"),
            Column("mean_error", "mean of the members", "percent"),
            _SPREAD,
            Column("members_error", "lowest to highest", "percent interval"),
        ),
        rows,
        (
            "The paper's rule takes the member with the lowest one-crop top-1 error on these images. The mean "
            "over the members is flattered by no choice.",
        ),
    )


def diversity_table(found: Analyses) -> Table:
    """How differently each two members err."""
    names = found.decisions.members
    return Table(
        "diversity",
        "How differently two members err",
        (
            *_WHERE,
            Column("one", "member"),
            Column("other", "other member"),
            Column("disagreement", "one of them wrong", "percent"),
            Column("both_wrong", "both wrong", "percent"),
            Column("error_correlation", "correlation of errors", "fraction"),
        ),
        tuple(
            (
                f"top-{k}",
                crops,
                names[pair.one],
                names[pair.other],
                pair.disagreement_percent,
                pair.both_wrong_percent,
                pair.error_correlation,
            )
            for (k, crops), members in _largest_first(found.members)
            for pair in members.diversity
        ),
        ("The less the errors of two members correlate, the more an ensemble of them has to gain.",),
    )


def sizes_table(found: Analyses) -> Table:
    """Mean, spread, best and worst error of the ensembles of each size."""
    names = found.decisions.members
    return Table(
        "sizes",
        "Ensembles by their number of members",
        (
            *_WHERE,
            Column("size", "members", "count"),
            Column("subsets", "ensembles", "count"),
            Column("mean_error", "mean error", "percent"),
            _SPREAD,
            Column("best", "best"),
            Column("best_error", "best error", "percent"),
            Column("worst", "worst"),
            Column("worst_error", "worst error", "percent"),
        ),
        tuple(
            (
                f"top-{k}",
                crops,
                size.size,
                size.subsets,
                size.mean_error_percent,
                size.spread_points,
                _joined(names, size.best),
                size.best_error_percent,
                _joined(names, size.worst),
                size.worst_error_percent,
            )
            for (k, crops), ensembles in _largest_first(found.ensembles)
            for size in ensembles.sizes
        ),
        (_CHOSEN_AFTERWARDS,),
    )


def subsets_table(found: Analyses) -> Table:
    """The error of every ensemble of some of the members."""
    names, images = found.decisions.members, len(found.decisions.images)
    return Table(
        "subsets",
        "Every ensemble of some of the members",
        (
            *_WHERE,
            Column("size", "members", "count"),
            Column("members", "which"),
            Column("wrong", "wrong", "count"),
            Column("error", "error", "percent"),
            Column("error", "95% interval", "percent interval"),
        ),
        tuple(
            (
                f"top-{k}",
                crops,
                len(subset),
                _joined(names, subset),
                int(wrong),
                100 * int(wrong) / images,
                error_interval_percent(int(wrong), images),
            )
            for (k, crops), ensembles in _largest_first(found.ensembles)
            for subset, wrong in zip(ensembles.subsets, ensembles.wrong, strict=True)
        ),
        (_CHOSEN_AFTERWARDS,),
    )


def greedy_table(found: Analyses) -> Table:
    """The order in which greedy selection adds members, and what it is worth on other images."""
    names = found.decisions.members
    return Table(
        "greedy",
        "Members in the order of greedy selection",
        (
            *_WHERE,
            Column("size", "members", "count"),
            Column("added", "added"),
            Column("in_sample_error", "on the images that chose it", "percent"),
            Column("cross_validated_error", "cross-validated", "percent"),
        ),
        tuple(
            (
                f"top-{k}",
                crops,
                size + 1,
                names[member],
                greedy.in_sample_error_percent[size],
                greedy.cross_validated_error_percent[size],
            )
            for (k, crops), ensembles in _largest_first(found.ensembles)
            for greedy in [ensembles.greedy]
            if greedy is not None
            for size, member in enumerate(greedy.order)
        ),
        (
            f"Cross-validated: the images are dealt into {FOLDS} folds, and each fold is scored with the members "
            "that the other folds select. Claim this error and not the other, which flatters itself.",
        ),
    )


def left_out_table(found: Analyses) -> Table:
    """What leaving out each member costs."""
    names = found.decisions.members
    return Table(
        "leave_one_out",
        "The ensemble without one of its members",
        (*_WHERE, Column("left_out", "left out"), *DIFFERENCE_COLUMNS),
        tuple(
            (f"top-{k}", crops, names[each.other - 1], *difference_cells(each))
            for (k, crops), ensembles in _largest_first(found.ensembles)
            for each in ensembles.leave_one_out
        ),
        (
            "The difference is the error without the member minus that of the whole ensemble: above 0, the member "
            "carries its weight.",
            *_left_out_note(found),
        ),
    )


def _largest_first(found: Mapping[tuple[int, int], _Found]) -> list[tuple[tuple[int, int], _Found]]:
    """Top-5 before top-1, and more crops before fewer: what the plots show comes first."""
    return sorted(found.items(), key=lambda item: item[0], reverse=True)


def _left_out_note(found: Analyses) -> Iterator[str]:
    yield tests_note(len(found.decisions.members), found.margin_points) + " Each error and scheme is a family."


def _joined(names: Sequence[str], subset: Sequence[int]) -> str:
    return " + ".join(names[member] for member in subset)
