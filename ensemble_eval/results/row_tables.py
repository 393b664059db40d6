"""Table 3 with what may be claimed of its rows, and Table 2 with this run among the published entries."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ensemble_eval.paper.published import TABLE_2, TABLE_3
from ensemble_eval.results.analyses import Analyses
from ensemble_eval.results.decisions import TOP_1, TOP_5, Configuration, Decisions
from ensemble_eval.scoring.paired import PairedDifference
from ensemble_eval.scoring.statistics import error_interval_percent
from ensemble_eval.scoring.table3 import Row
from ensemble_eval.tables.table import Column, Table, Value

DIFFERENCE_COLUMNS = (
    Column("base_error", "error", "percent"),
    Column("other_error", "other's error", "percent"),
    Column("fixed", "fixed", "count"),
    Column("broken", "broken", "count"),
    Column("difference", "difference", "points"),
    Column("difference", "95% interval", "points interval"),
    Column("bootstrap", "bootstrap 95%", "points interval"),
    Column("mcnemar_p", "McNemar p", "p"),
    Column("adjusted_p", "adjusted p", "p"),
    Column("adjusted_equivalence_p", "adjusted p of equality", "p"),
    Column("verdict", "verdict"),
)
_TABLE3_COLUMNS = (
    Column("models", "models", "count"),
    Column("crops", "crops", "count"),
    Column("cost", "cost", "count"),
    Column("top5_error", "top-5 error", "percent"),
    Column("top5", "95% interval", "percent interval"),
    Column("compared_to_base", "to base", "points"),
    Column("paired", "paired 95% interval", "points interval"),
    Column("fixed", "fixed", "count"),
    Column("broken", "broken", "count"),
    Column("adjusted_p", "adjusted p", "p"),
    Column("verdict", "against base"),
    Column("top1_error", "top-1 error", "percent"),
)
_PAPER_COLUMNS = (
    Column("paper_top5_error", "paper, top-5", "percent"),
    Column("paper_compared_to_base", "paper, to base", "points"),
)
NOT_COMPARABLE = "not comparable"
_NOT_THE_PAPERS = (
    "The published errors are counted over all images, by one label, among all classes; they are not comparable."
)


def table3_rows(decisions: Decisions) -> list[Row]:
    """The rows of Table 3, number for number those of `table3.csv`.

    Args:
        decisions: of a run.
    """
    base = _error_percent(decisions, decisions.configurations[0], TOP_5)
    return [_row(decisions, each, base) for each in decisions.configurations]


def table3_table(found: Analyses, *, with_paper: bool = True) -> Table:
    """Table 3 with what may be claimed of each row against the first, and the paper's figures beside it.

    Args:
        found: of a run.
        with_paper: add what the paper prints, with its differences computed from its errors.
    """
    rows = []
    for position, row in enumerate(table3_rows(found.decisions)):
        paired = found.comparisons[TOP_5].against_base[position - 1] if position else None
        cells = _table3_cells(row, paired)
        rows.append((*cells, *_paper_cells(row)) if with_paper else cells)
    return Table(
        "table3",
        f"Table 3: errors on {len(found.decisions.images)} images",
        (*_TABLE3_COLUMNS, *(_paper_columns(found) if with_paper else ())),
        tuple(rows),
        (
            *_paper_notes(found, with_paper=with_paper),
            f"One model is {found.decisions.one_model_member}, the member with the lowest one-crop top-1 error on "
            "these images.",
            "Errors have Wilson's interval; differences are in percentage points and have Tango's, paired by "
            "image.",
            tests_note(len(rows) - 1, found.margin_points),
        ),
    )


def comparison_tables(found: Analyses) -> list[Table]:
    """Rows of Table 3 against the first, and against each other, for each error that is known."""
    tables = []
    for k, comparisons in found.comparisons.items():
        for name, title, pairs in (
            ("against_base", "every row against the first", comparisons.against_base),
            ("between_rows", "every row against every later one", comparisons.between),
        ):
            if pairs:
                tables.append(_comparison_table(f"{name}_top{k}", f"Top-{k} error, {title}", pairs, found))
    return tables


def _paper_columns(found: Analyses) -> tuple[Column, ...]:
    """What the paper prints, marked where this run counts over something else."""
    if not found.counted:
        return _PAPER_COLUMNS
    return tuple(replace(each, title=f"{each.title} ({NOT_COMPARABLE})") for each in _PAPER_COLUMNS)


def _paper_notes(found: Analyses, *, with_paper: bool = True) -> Iterator[str]:
    if found.counted and with_paper:
        yield _NOT_THE_PAPERS


def table2_table(found: Analyses, data: str) -> Table:
    """Table 2: the published entries, and this run's last row among them by its error.

    Args:
        found: of a run.
        data: what the run was evaluated on, as a phrase.
    """
    row = table3_rows(found.decisions)[-1]
    here: tuple[Value, ...] = (
        f"this run, {row.models} × {row.crops}",
        "",
        "",
        row.top5_error,
        (row.top5_low, row.top5_high),
        "",
        f"measured here, {NOT_COMPARABLE}" if found.counted else "measured here",
        data,
    )
    place = sum(each.top5_error_percent > row.top5_error for each in TABLE_2)
    better_last: list[tuple[Value, ...]] = [
        (
            each.team,
            str(each.year),
            each.place,
            each.top5_error_percent,
            None,
            each.external_data,
            "published",
            "ILSVRC",
        )
        for each in TABLE_2
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
        (*better_last[:place], here, *better_last[place:]),
        (
            *_paper_notes(found),
            f"The entries were measured on ILSVRC's images, and this run on {data}. On images other than theirs, "
            "its place among them means nothing.",
        ),
    )


def difference_cells(each: PairedDifference) -> tuple[Value, ...]:
    """The cells of `DIFFERENCE_COLUMNS`.

    Args:
        each: difference of two error rates.
    """
    bootstrap = (each.bootstrap_low_points, each.bootstrap_high_points)
    return (
        100 * each.base_wrong / each.images,
        100 * each.other_wrong / each.images,
        each.fixed,
        each.broken,
        each.difference_points,
        (each.low_points, each.high_points),
        None if bootstrap[0] is None or bootstrap[1] is None else (bootstrap[0], bootstrap[1]),
        each.mcnemar_p,
        each.adjusted_p,
        each.adjusted_equivalence_p,
        each.verdict_text,
    )


def tests_note(tests: int, margin_points: float) -> str:
    """One sentence on what p values and verdicts are.

    Args:
        tests: that are adjusted for each other.
        margin_points: within which errors count as equal.
    """
    adjusted = f", adjusted by Holm's method over {tests} comparisons" if tests > 1 else ""
    alike = ", adjusted alike," if tests > 1 else ""
    return (
        f"p is the exact McNemar test's{adjusted}. Errors are better or worse where it is at most 5%, and equal "
        f"within {margin_points:g} points where two one-sided tests{alike} say so at 5%."
    )


def _comparison_table(name: str, title: str, pairs: Sequence[PairedDifference], found: Analyses) -> Table:
    rows = found.configurations
    return Table(
        name,
        title,
        (Column("base", "row"), Column("other", "other row"), *DIFFERENCE_COLUMNS),
        tuple((str(rows[each.base]), str(rows[each.other]), *difference_cells(each)) for each in pairs),
        (
            "Rows are models × crops. The difference is the other's error minus the row's; negative is better.",
            tests_note(len(pairs), found.margin_points),
        ),
    )


def _row(decisions: Decisions, configuration: Configuration, base_percent: float) -> Row:
    place, images = decisions.place(configuration), len(decisions.images)
    top5_wrong, top1_wrong = (int(decisions.wrong[k][place].sum()) for k in (TOP_5, TOP_1))
    knows_top1 = bool(decisions.is_known[TOP_1][place])
    low, high = error_interval_percent(top5_wrong, images)
    error = _error_percent(decisions, configuration, TOP_5)
    return Row(
        models=configuration.models,
        crops=configuration.crops,
        cost=configuration.models * configuration.crops,
        top5_error=error,
        compared_to_base=error - base_percent,
        top1_error=100 * top1_wrong / images if knows_top1 else None,
        top5_wrong=top5_wrong,
        top1_wrong=top1_wrong if knows_top1 else None,
        images=images,
        top5_low=low,
        top5_high=high,
    )


def _error_percent(decisions: Decisions, configuration: Configuration, k: int) -> float:
    return 100 * int(decisions.wrong[k][decisions.place(configuration)].sum()) / len(decisions.images)


def _table3_cells(row: Row, paired: PairedDifference | None) -> tuple[Value, ...]:
    size = (row.models, row.crops, row.cost, row.top5_error, (row.top5_low, row.top5_high))
    if paired is None:
        return (*size, 0.0, None, None, None, None, "base", row.top1_error)
    return (
        *size,
        row.compared_to_base,
        (paired.low_points, paired.high_points),
        paired.fixed,
        paired.broken,
        paired.adjusted_p,
        paired.verdict_text,
        row.top1_error,
    )


def _paper_cells(row: Row) -> tuple[Value, ...]:
    published = TABLE_3.get((row.models, row.crops))
    return (published, None if published is None else published - TABLE_3[1, 1])
