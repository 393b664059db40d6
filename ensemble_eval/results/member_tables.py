"""Tables of members and their ensembles: one model, diversity, all subsets, greedy selection and leave-one-out."""

from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import TypeVar

from ensemble_eval.results.analyses import Analyses
from ensemble_eval.results.row_tables import DIFFERENCE_COLUMNS, tests_note
from ensemble_eval.scoring.intervals import error_interval_percent
from ensemble_eval.scoring.subset_ranks import Subset
from ensemble_eval.scoring.subsets import FOLDS
from ensemble_eval.tables.table import FilledColumn, Table, filled_from, table_of

_FoundT = TypeVar("_FoundT")
_ItemT = TypeVar("_ItemT")
# The spread of all members, and of all their ensembles of one size; both tables agree about single members.
_SPREAD = "population standard deviation"
_CHOSEN_AFTERWARDS = (
    "Best and worst are chosen after the fact, on the images that they are scored on: exploration, and the best "
    "flatters itself. The ensembles share members and images, so the spread is no standard error."
)


def member_tables(found: Analyses) -> list[Table]:
    """All tables about members and their ensembles that the analyses of a run provide."""
    tables = [_one_model_table(found)]
    if len(found.decisions.members) > 1:
        tables.append(_diversity_table(found))
    if found.ensembles:
        tables += [_sizes_table(found), _subsets_table(found), _greedy_table(found), _left_out_table(found)]
    return [table for table in tables if table.rows]


def _one_model_table(found: Analyses) -> Table:
    names = found.decisions.members
    return _table(
        "one_model",
        "What one model may mean",
        found.members,
        lambda members: [members.one_model],
        [
            ("chosen", "paper's rule", "text", lambda each: names[each.chosen]),
            ("chosen_error", "rule's error", "percent", lambda each: each.chosen_error_percent),
            ("first", "first member", "text", lambda _: names[0]),
            ("first_error", "first's error", "percent", lambda each: each.first_error_percent),
            ("mean_error", "mean of the members", "percent", lambda each: each.mean_error_percent),
            ("spread", _SPREAD, "number", lambda each: each.spread_points),
            ("members_error", "lowest to highest", "percent interval", lambda each: each.range_percent),
        ],
        "The paper's rule takes the member with the lowest one-crop top-1 error on these images. The mean "
        "over the members is flattered by no choice.",
    )


def _diversity_table(found: Analyses) -> Table:
    names = found.decisions.members
    return _table(
        "diversity",
        "How differently two members err",
        found.members,
        lambda members: members.diversity,
        [
            ("one", "member", "text", lambda pair: names[pair.one]),
            ("other", "other member", "text", lambda pair: names[pair.other]),
            ("disagreement", "one of them wrong", "percent", lambda pair: pair.disagreement_percent),
            ("both_wrong", "both wrong", "percent", lambda pair: pair.both_wrong_percent),
            ("error_correlation", "correlation of errors", "fraction", lambda pair: pair.error_correlation),
        ],
        "The less the errors of two members correlate, the more an ensemble of them has to gain.",
    )


def _sizes_table(found: Analyses) -> Table:
    return _table(
        "sizes",
        "Ensembles by their number of members",
        found.ensembles,
        lambda ensembles: ensembles.sizes,
        [
            ("size", "members", "count", lambda size: size.size),
            ("subsets", "ensembles", "count", lambda size: size.subsets),
            ("mean_error", "mean error", "percent", lambda size: size.mean_error_percent),
            ("spread", _SPREAD, "number", lambda size: size.spread_points),
            ("best", "best", "text", lambda size: _joined(found, size.best)),
            ("best_error", "best error", "percent", lambda size: size.best_error_percent),
            ("worst", "worst", "text", lambda size: _joined(found, size.worst)),
            ("worst_error", "worst error", "percent", lambda size: size.worst_error_percent),
        ],
        _CHOSEN_AFTERWARDS,
    )


def _subsets_table(found: Analyses) -> Table:
    images = len(found.decisions.images)
    return _table(
        "subsets",
        "Every ensemble of some of the members",
        found.ensembles,
        lambda ensembles: list(zip(ensembles.subsets, ensembles.wrong.tolist(), strict=True)),
        [
            ("size", "members", "count", lambda each: len(each[0])),
            ("members", "which", "text", lambda each: _joined(found, each[0])),
            ("wrong", "wrong", "count", lambda each: each[1]),
            ("error", "error", "percent", lambda each: 100 * each[1] / images),
            ("error", "95% interval", "percent interval", lambda each: error_interval_percent(each[1], images)),
        ],
        _CHOSEN_AFTERWARDS,
    )


def _greedy_table(found: Analyses) -> Table:
    names = found.decisions.members
    return _table(
        "greedy",
        "Members in the order of greedy selection",
        found.ensembles,
        lambda ensembles: ensembles.greedy.steps if ensembles.greedy else (),
        [
            ("size", "members", "count", lambda step: step[0]),
            ("added", "added", "text", lambda step: names[step[1]]),
            ("in_sample_error", "on the images that chose it", "percent", lambda step: step[2]),
            ("cross_validated_error", "cross-validated", "percent", lambda step: step[3]),
        ],
        f"Cross-validated: the images are dealt into {FOLDS} folds, and each fold is scored with the members "
        "that the other folds select. Claim this error and not the other, which flatters itself.",
    )


def _left_out_table(found: Analyses) -> Table:
    names = found.decisions.members
    return _table(
        "leave_one_out",
        "The ensemble without one of its members",
        found.ensembles,
        lambda ensembles: ensembles.leave_one_out,
        [("left_out", "left out", "text", lambda each: names[each.other - 1]), *DIFFERENCE_COLUMNS],
        "The difference is the error without the member minus that of the whole ensemble: above 0, the member "
        "carries its weight.",
        tests_note(len(names), found.margin_points) + " Each error and scheme is a family.",
    )


def _table(
    name: str,
    title: str,
    found: Mapping[tuple[int, int], _FoundT],
    items_of: Callable[[_FoundT], Iterable[_ItemT]],
    columns: list[FilledColumn[_ItemT]],
    *notes: str,
) -> Table:
    """A table of the items of each error and scheme, top-5 and more crops first, because plots show these."""
    return table_of(
        name,
        title,
        [(k, crops, item) for k, crops in sorted(found, reverse=True) for item in items_of(found[k, crops])],
        [
            ("error_of", "error of", "text", lambda row: f"top-{row[0]}"),
            ("crops", "crops", "count", lambda row: row[1]),
            *filled_from(itemgetter(2), columns),
        ],
        notes,
    )


def _joined(found: Analyses, subset: Subset) -> str:
    return " + ".join(found.decisions.members[member] for member in subset)
