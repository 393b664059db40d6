"""Tables of rows: Table 3 with comparisons, Table 2 with this run, and the errors of members and ensembles."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from operator import itemgetter
from typing import TypeVar

from ensemble_eval.paper.published import TABLE_2, among
from ensemble_eval.results.analyses import Analyses
from ensemble_eval.scoring.paired import PairedDifference
from ensemble_eval.scoring.subset_ranks import Subset
from ensemble_eval.scoring.subsets import FOLDS
from ensemble_eval.scoring.table3 import COLUMNS, TOP_5, table3
from ensemble_eval.tables.table import FilledColumn, Table, filled_from, table_of

DIFFERENCE_COLUMNS: tuple[FilledColumn[PairedDifference], ...] = (
    ("base_error", "error", "percent", lambda each: 100 * each.base_wrong / each.images),
    ("other_error", "other error", "percent", lambda each: 100 * each.other_wrong / each.images),
    ("fixed", "fixed", "count", lambda each: each.fixed),
    ("broken", "broken", "count", lambda each: each.broken),
    ("difference", "difference", "points", lambda each: each.difference_points),
    ("difference", "95% interval", "points interval", lambda each: (each.low_points, each.high_points)),
    ("bootstrap", "bootstrap 95%", "points interval", lambda each: each.bootstrap_points),
    ("mcnemar_p", "McNemar p", "p", lambda each: each.mcnemar_p),
    ("adjusted_p", "adjusted p", "p", lambda each: each.adjusted_p),
    ("adjusted_equivalence_p", "adjusted p of equality", "p", lambda each: each.adjusted_equivalence_p),
    ("detectable", "detectable difference", "number", lambda each: each.detectable_points),
    ("verdict", "verdict", "text", lambda each: each.verdict_text),
)
_PAIRED_COLUMNS: tuple[FilledColumn[PairedDifference], ...] = (
    ("paired", "paired 95% interval", "points interval", lambda each: (each.low_points, each.high_points)),
    *(column for column in DIFFERENCE_COLUMNS if column[0] in ("fixed", "broken", "adjusted_p")),
)
_SHOWN = (
    *("models", "crops", "cost", "top5_error", "top5", "compared_to_base"),
    *("paired", "fixed", "broken", "adjusted_p", "verdict", "top1_error"),
)
DETECTABLE_NOTE = (
    "For rows that cannot be told apart, the detectable difference is the one that this many images detect in 80% "
    "of cases, in percentage points."
)
NOT_COMPARABLE = "not comparable"
_NOT_THE_PAPERS = (
    "The published errors are counted over all images, by one label, among all classes; they are not comparable."
)
# The signs of verdicts in a narrow table, by the first word of each.
_DAGGERS = {"better": "†", "worse": "‡", "equal": "§"}
_FoundT = TypeVar("_FoundT")
_ItemT = TypeVar("_ItemT")
# The spread of all members, and of all their ensembles of one size; both tables agree about single members.
_SPREAD = "population standard deviation"
_CHOSEN_AFTERWARDS = (
    "Best and worst are chosen on the images that they are scored on, so the error of the best is optimistic. The "
    "ensembles share members and images, so the spread is not a standard error."
)


def table3_table(found: Analyses, *, with_paper: bool = True) -> Table:
    """Table 3 with a verdict for each row compared with the first, and the figures of the paper beside them.

    Args:
        found: The analyses of a run.
        with_paper: Add the figures of the paper, with differences that are computed from its errors.
    """
    rows = list(zip(table3(found.decisions), (None, *found.comparisons[TOP_5].against_base), strict=True))
    papers = [
        (key, f"{title} ({NOT_COMPARABLE})" if found.counted else title, kind, value)
        for key, title, kind, value in found.published.columns()
        if with_paper
    ]
    return table_of(
        "table3",
        f"Table 3: errors on {len(found.decisions.images)} images",
        rows,
        [
            *filled_from(itemgetter(0), [*COLUMNS, *papers]),
            *filled_from(itemgetter(1), _PAIRED_COLUMNS),
            ("verdict", "verdict", "text", lambda at: at[1].verdict_text if at[1] else "base"),
        ],
        (
            *([_NOT_THE_PAPERS] if found.counted and papers else []),
            *([found.published.sources] if papers and found.published.sources else []),
            found.decisions.one_model_note,
            "Errors have Wilson's interval; differences are in percentage points and have Tango's, paired by "
            "image.",
            tests_note(len(rows) - 1, found.margin_points, found.clusters),
        ),
    ).only(*_SHOWN, *(column[0] for column in papers))


def compact_table3(found: Analyses, *, with_paper: bool = True) -> Table:
    """The columns of Table 3 that fit beside a plot; arguments as of `table3_table`."""
    table = table3_table(found, with_paper=with_paper)
    kept = ("models", "crops", "top5_error", "top5", "compared_to_base", "verdict", "paper_top5_error")
    keys = [column.key for column in table.columns if column.key in kept]
    rows = table3(found.decisions)
    lowest = min(row.top5_error for row in rows)
    best = " and ".join(str(row) for row in rows if row.top5_error == lowest)
    notes = (
        *([_NOT_THE_PAPERS] if found.counted and "paper_top5_error" in keys else []),
        f"The lowest error is that of {best}. {found.decisions.one_model_note}",
    )
    titles = {"compared_to_base": "change, points", "verdict": f"compared with {found.configurations[0]}"}
    return replace(table.only(*keys).titled(**titles), notes=notes)


def with_daggers(table: Table) -> Table:
    """The table with a sign for each verdict, which a note explains, or the table itself if it has none."""
    keys = [column.key for column in table.columns]
    if "verdict" not in keys:
        return table
    at = keys.index("verdict")
    words = [str(row[at]).replace(",", " ").split()[0] for row in table.rows]
    rows = (
        (*row[:at], _DAGGERS.get(word, ""), *row[at + 1 :]) for row, word in zip(table.rows, words, strict=True)
    )
    meaning = ", ".join(f"{sign} {word}" for word, sign in _DAGGERS.items() if word in words)
    compared = f"Compared with the first row: {meaning}. " if meaning else ""
    note = f"{compared}Rows without a sign cannot be told apart from the first row."
    return replace(table, rows=tuple(rows), notes=(*table.notes, note)).titled(verdict="")


def comparison_tables(found: Analyses) -> list[Table]:
    """Rows of Table 3 compared with the first, and with each other, for each error that the run knows."""
    rows = found.configurations
    note = "Rows are models × crops. The difference is the other error minus the error; negative is better."
    return [
        table_of(
            f"{name}_top{k}",
            f"Top-{k} error, {title}",
            pairs,
            [
                ("base", "row", "text", lambda each: str(rows[each.base])),
                ("other", "other row", "text", lambda each: str(rows[each.other])),
                *DIFFERENCE_COLUMNS,
            ],
            (note, tests_note(len(pairs), found.margin_points, found.clusters), DETECTABLE_NOTE),
        )
        for k, comparisons in found.comparisons.items()
        for name, title, pairs in (
            ("against_base", "every row against the first", comparisons.against_base),
            ("between_rows", "every row against every later one", comparisons.between),
        )
        if pairs
    ]


def table2_table(found: Analyses, data: str) -> Table:
    """Table 2: the published entries, and this run's last row among them by its error.

    Args:
        found: The analyses of a run.
        data: The evaluated images, as a phrase.
    """
    row = table3(found.decisions)[-1]
    source = f"measured here, {NOT_COMPARABLE}" if found.counted else "measured here"
    interval = (row.top5_low, row.top5_high)
    here = (f"this run, {row.models} × {row.crops}", "", "", row.top5_error, interval, "", source, data)
    notes = (
        *([_NOT_THE_PAPERS] if found.counted else []),
        f"The entries were measured on ILSVRC's images, and this run on {data}. On images other than theirs, its "
        "place among them means nothing.",
    )
    table = among(TABLE_2, here, "top5_error", falling=True)
    return replace(table, title=f"{table.title}{f' ({NOT_COMPARABLE})' if found.counted else ''}", notes=notes)


def tests_note(tests: int, margin_points: float, clusters: int) -> str:
    """A note that defines p-values and verdicts.

    Args:
        tests: The number of comparisons that are adjusted among each other.
        margin_points: Two errors that differ by less count as equal.
        clusters: The number of clusters of images; 0 if images are independent.
    """
    flips = "an exact permutation test that flips the sign of each cluster's difference"
    test = flips if clusters else "the exact McNemar test"
    adjusted = f", adjusted by Holm's method over {tests} comparisons" if tests > 1 else ""
    alike = ", adjusted in the same way," if tests > 1 else ""
    return (
        f"p is the p-value of {test}{adjusted}. A row is better or worse if p is below 5%, and equal "
        f"within {margin_points:g} points if two one-sided tests{alike} reject a larger difference at 5%."
    )


def member_tables(found: Analyses) -> list[Table]:
    """All tables about members and their ensembles that the analyses of a run provide."""
    tables = [_one_model_table(found)]
    if found.recipe_errors:
        tables.append(_recipe_table(found))
    if len(found.decisions.members) > 1:
        tables.append(_diversity_table(found))
    if found.ensembles:
        tables += [_sizes_table(found), _subsets_table(found), _greedy_table(found), _left_out_table(found)]
    return [table for table in tables if table.rows]


def _one_model_table(found: Analyses) -> Table:
    names = found.decisions.members
    return _table(
        "one_model",
        "Errors of single members: the paper's choice, the first member, and all",
        found.members,
        lambda members: [members.one_model],
        [
            ("chosen", "paper's rule", "text", lambda each: names[each.chosen]),
            ("chosen_error", "error of the rule", "percent", lambda each: each.chosen_error_percent),
            ("cross_fitted_error", "cross-fitted error", "percent", lambda each: each.cross_fitted_error_percent),
            ("first", "first member", "text", lambda _: names[0]),
            ("first_error", "its error", "percent", lambda each: each.first_error_percent),
            ("mean_error", "mean error", "percent", lambda each: each.mean_error_percent),
            ("spread", _SPREAD, "number", lambda each: each.spread_points),
            ("members_error", "lowest to highest", "percent interval", lambda each: each.range_percent),
        ],
        "The paper's rule takes the member with the lowest one-crop top-1 error on these images, so its error "
        f"is optimistic. For the cross-fitted error, the member of each of {FOLDS} folds is chosen on the other "
        "folds. The cross-fitted error and the mean over the members are not optimistic.",
    )


def _recipe_table(found: Analyses) -> Table:
    return _table(
        "recipe",
        "Members of one recipe, as a sample of the networks that it trains",
        found.recipe_errors,
        lambda recipe: [recipe],
        [
            ("members", "members", "count", lambda each: each.members),
            ("mean_error", "mean error", "percent", lambda each: each.mean_percent),
            ("deviation", "standard deviation", "number", lambda each: each.deviation_points),
            ("mean", "95% interval of the mean", "percent interval", lambda each: each.mean_interval_percent),
            ("next", "95% interval of one more", "percent interval", lambda each: each.next_interval_percent),
        ],
        f"{', '.join(found.recipe)} were named as members that one recipe trained. These intervals are Student's. "
        "They treat the members as a sample, and the images as fixed. All other intervals treat the images as a "
        "sample, and the members as fixed.",
    )


def _diversity_table(found: Analyses) -> Table:
    names = found.decisions.members
    return _table(
        "diversity",
        "Diversity: how often two members are wrong together",
        found.members,
        lambda members: members.diversity,
        [
            ("one", "member", "text", lambda pair: names[pair.one]),
            ("other", "other member", "text", lambda pair: names[pair.other]),
            ("disagreement", "one of them wrong", "percent", lambda pair: pair.disagreement_percent),
            ("both_wrong", "both wrong", "percent", lambda pair: pair.both_wrong_percent),
            ("error_correlation", "correlation of errors", "fraction", lambda pair: pair.error_correlation),
        ],
        "The less the errors of two members correlate, the more an ensemble of them can gain.",
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
    against_whole: list[FilledColumn[PairedDifference]] = [
        ("whole_p", "p against all members", "p", lambda each: each.mcnemar_p),
        ("whole_rate", "false discovery rate", "p", lambda each: each.adjusted_p),
    ]
    return _table(
        "subsets",
        "All ensembles of some of the members",
        found.ensembles,
        lambda each: list(
            zip(each.subsets, each.wrong.tolist(), each.intervals_percent, each.against_whole, strict=True)
        ),
        [
            ("size", "members", "count", lambda each: len(each[0])),
            ("members", "which", "text", lambda each: _joined(found, each[0])),
            ("wrong", "wrong", "count", lambda each: each[1]),
            ("error", "error", "percent", lambda each: 100 * each[1] / images),
            ("error", "95% interval", "percent interval", itemgetter(2)),
            *filled_from(itemgetter(3), against_whole),
        ],
        _CHOSEN_AFTERWARDS,
        "p is the p-value of the exact test against the ensemble of all members. Of the ensembles with a false "
        "discovery rate below 5%, at most 5% are expected not to differ from it (Benjamini and Yekutieli, "
        "because ensembles share members and images). The rates are computed separately for each error and "
        "scheme.",
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
        f"Cross-validated: the images are split into {FOLDS} folds, and each fold is scored with the members "
        "that the other folds select. Report this error; the other one is optimistic.",
    )


def _left_out_table(found: Analyses) -> Table:
    names = found.decisions.members
    return _table(
        "leave_one_out",
        "The ensemble without one of its members",
        found.ensembles,
        lambda ensembles: ensembles.leave_one_out,
        [("left_out", "left out", "text", lambda each: names[each.other - 1]), *DIFFERENCE_COLUMNS],
        "The difference is the error without the member minus that of the whole ensemble; above 0, the member "
        "helps.",
        tests_note(len(names), found.margin_points, found.clusters)
        + " P-values are adjusted separately for each error and scheme.",
        DETECTABLE_NOTE,
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
