"""The tables of `ensemble-eval compare`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ensemble_eval.cli.output import print_sentence
from ensemble_eval.cli.tables import print_table

if TYPE_CHECKING:
    from rich.console import Console

    from ensemble_eval.results.compare import Comparison
    from ensemble_eval.results.compare_errors import RunDifference
    from ensemble_eval.results.reading import StoredRun

_ERRORS_HEADER = ("run", "models", "crops")
# The first to go where they do not fit.
_ERRORS_DISPENSABLE = (("bootstrap",), ("McNemar p",), ("errors",), ("fixed", "broken"), ("adjusted p",))
_DECISIONS_HEADER = ("member", "crops", "top-5 differs", "top-1 differs", "rank differs", "scores differ by")
# As above; member, crops and the top-5 stay.
_DECISIONS_DISPENSABLE = ("rank differs", "top-1 differs", "scores differ by")


def print_errors(console: "Console", runs: Sequence["StoredRun"], margin_points: float) -> None:
    """Print how the errors of several runs differ from those of the first, a table for each error.

    Args:
        console: where to.
        runs: two or more.
        margin_points: within which errors count as equal.
    """
    from ensemble_eval.results.compare_errors import compare_errors
    from ensemble_eval.results.differences_text import DIFFERENCE_HEADER, comparisons_text

    found = compare_errors(runs, margin_points=margin_points)
    header = (*_ERRORS_HEADER, *DIFFERENCE_HEADER)
    dispensable = [[header.index(title) for title in group] for group in _ERRORS_DISPENSABLE]
    print_sentence(console, f"{len(runs)} runs over the same {found.images} images")
    for position, (run, member) in enumerate(zip(runs, found.one_model_members, strict=True), 1):
        print_sentence(console, f"run {position} is {run.folder}; its one model is {member}")
    for k, differences in found.differences.items():
        print_sentence(console, f"top-{k} error against run 1, in percentage points:")
        print_table(console, header, [_error_cells(each) for each in differences], dispensable)
        print_sentence(console, comparisons_text(len(differences), margin_points))
    if 1 not in found.differences:
        print_sentence(console, "top-1: not known for every image, because a run stopped when it was decided")
    if found.left_out_crops:
        schemes = ", ".join(map(str, found.left_out_crops))
        print_sentence(console, f"left out, because not all runs have these schemes: {schemes} crops")


def print_decisions(console: "Console", one: "StoredRun", other: "StoredRun") -> None:
    """Print in how many decisions, ranks and scores two runs differ, by member and scheme.

    Args:
        console: where to.
        one, other: of the same members and schemes.
    """
    from ensemble_eval.results.compare import compare

    rows = compare(one, other)
    print_sentence(console, f"single decisions of {one.folder} and {other.folder}:")
    dispensable = [(_DECISIONS_HEADER.index(title),) for title in _DECISIONS_DISPENSABLE]
    print_table(console, _DECISIONS_HEADER, [_decision_cells(row) for row in rows], dispensable, left_aligned=(0,))
    for name, differing in (
        ("top-5", [row.top5_differs for row in rows]),
        ("top-1", [row.top1_differs for row in rows]),
    ):
        print_sentence(console, _sentence(name, differing, sum(row.images for row in rows)))


def _error_cells(row: "RunDifference") -> list[str]:
    from ensemble_eval.results.differences_text import difference_cells

    models = " and ".join(str(count) for count in dict.fromkeys((row.base.models, row.other.models)))
    return [str(row.run + 1), models, str(row.base.crops), *difference_cells(row.paired)]


def _decision_cells(row: "Comparison") -> list[str]:
    counts = (row.top5_differs, row.top1_differs, row.rank_differs)
    distance = row.largest_score_difference
    return [
        row.member,
        str(row.crops),
        *("–" if count is None else str(count) for count in counts),
        "–" if distance is None else f"{distance:.2g}",
    ]


def _sentence(name: str, differing: Sequence[int | None], decisions: int) -> str:
    known = [count for count in differing if count is not None]
    if len(known) < len(differing):
        return f"{name}: not known for every image, because a run stopped when it was decided"
    return (
        f"{name}: {sum(known)} of {decisions} decisions differ, {1000 * sum(known) / decisions:.2f} in a thousand"
    )
