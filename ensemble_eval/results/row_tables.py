"""Table 3 with comparisons of its rows, and Table 2 with this run among the published entries."""

from operator import itemgetter

from ensemble_eval.paper.published import TABLE_2, TABLE_3_COLUMNS
from ensemble_eval.results.analyses import Analyses
from ensemble_eval.scoring.paired import PairedDifference
from ensemble_eval.scoring.table3 import COLUMNS, TOP_5, table3
from ensemble_eval.tables.table import Column, FilledColumn, Table, Value, filled_from, table_of

DIFFERENCE_COLUMNS: tuple[FilledColumn[PairedDifference], ...] = (
    ("base_error", "error", "percent", lambda each: 100 * each.base_wrong / each.images),
    ("other_error", "other's error", "percent", lambda each: 100 * each.other_wrong / each.images),
    ("fixed", "fixed", "count", lambda each: each.fixed),
    ("broken", "broken", "count", lambda each: each.broken),
    ("difference", "difference", "points", lambda each: each.difference_points),
    ("difference", "95% interval", "points interval", lambda each: (each.low_points, each.high_points)),
    ("bootstrap", "bootstrap 95%", "points interval", lambda each: each.bootstrap_points),
    ("mcnemar_p", "McNemar p", "p", lambda each: each.mcnemar_p),
    ("adjusted_p", "adjusted p", "p", lambda each: each.adjusted_p),
    ("adjusted_equivalence_p", "adjusted p of equality", "p", lambda each: each.adjusted_equivalence_p),
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
NOT_COMPARABLE = "not comparable"
_NOT_THE_PAPERS = (
    "The published errors are counted over all images, by one label, among all classes; they are not comparable."
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
        for key, title, kind, value in TABLE_3_COLUMNS
        if with_paper
    ]
    return table_of(
        "table3",
        f"Table 3: errors on {len(found.decisions.images)} images",
        rows,
        [
            *filled_from(itemgetter(0), [*COLUMNS, *papers]),
            *filled_from(itemgetter(1), _PAIRED_COLUMNS),
            ("verdict", "against base", "text", lambda at: at[1].verdict_text if at[1] else "base"),
        ],
        (
            *([_NOT_THE_PAPERS] if found.counted and with_paper else []),
            found.decisions.one_model_note,
            "Errors have Wilson's interval; differences are in percentage points and have Tango's, paired by "
            "image.",
            tests_note(len(rows) - 1, found.margin_points),
        ),
    ).only(*_SHOWN, *(column[0] for column in papers))


def comparison_tables(found: Analyses) -> list[Table]:
    """Rows of Table 3 compared with the first, and with each other, for each error that the run knows."""
    rows = found.configurations
    note = "Rows are models × crops. The difference is the other's error minus the row's; negative is better."
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
            (note, tests_note(len(pairs), found.margin_points)),
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
    worse = sum(each.top5_error_percent > row.top5_error for each in TABLE_2)
    entries: list[tuple[Value, ...]] = [
        (team, str(year), place, error, None, external_data, "published", "ILSVRC")
        for team, year, place, error, external_data in TABLE_2
    ]
    return Table(
        "table2",
        f"Table 2: the challenge's entries, and this run{f' ({NOT_COMPARABLE})' if found.counted else ''}",
        (
            Column("team", "team"),
            Column("year", "year"),
            Column("place", "place"),
            Column("top5_error", "top-5 error", "percent"),
            Column("top5", "95% interval", "percent interval"),
            Column("external_data", "external data"),
            Column("source", "source"),
            Column("data", "images"),
        ),
        (*entries[:worse], here, *entries[worse:]),
        (
            *([_NOT_THE_PAPERS] if found.counted else []),
            f"The entries were measured on ILSVRC's images, and this run on {data}. On images other than theirs, "
            "its place among them means nothing.",
        ),
    )


def tests_note(tests: int, margin_points: float) -> str:
    """A note that defines p-values and verdicts.

    Args:
        tests: The number of comparisons that are adjusted among each other.
        margin_points: Two errors that differ by less count as equal.
    """
    adjusted = f", adjusted by Holm's method over {tests} comparisons" if tests > 1 else ""
    alike = ", adjusted alike," if tests > 1 else ""
    return (
        f"p is the exact McNemar test's{adjusted}. Errors are better or worse where it is at most 5%, and equal "
        f"within {margin_points:g} points where two one-sided tests{alike} say so at 5%."
    )
