"""The tables of `ensemble-eval compare`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ensemble_eval.cli.output import print_sentence
from ensemble_eval.cli.tables import print_table

if TYPE_CHECKING:
    from rich.console import Console

    from ensemble_eval.results.reading import StoredRun

# The first to go; run, models, crops, the difference with its interval, and the verdict stay.
_ERRORS_DISPENSABLE = (
    "bootstrap",
    "adjusted_equivalence_p",
    "mcnemar_p",
    ("base_error", "other_error"),
    ("fixed", "broken"),
    "adjusted_p",
)
# As above; member, crops and the top-5 stay.
_DECISIONS_DISPENSABLE = ("rank", "top1", "scores")


def print_errors(console: "Console", runs: Sequence["StoredRun"], margin_points: float) -> None:
    """Print how the errors of several runs differ from those of the first, a table for each error.

    Args:
        console: where to.
        runs: two or more.
        margin_points: within which errors count as equal.
    """
    from ensemble_eval.results.compare import compare_errors, run_differences_table

    found = compare_errors(runs, margin_points=margin_points)
    print_sentence(console, f"{len(runs)} runs over the same {found.images} images")
    for position, (run, member) in enumerate(zip(runs, found.one_model_members, strict=True), 1):
        print_sentence(console, f"run {position} is {run.folder}; its one model is {member}")
    for k, differences in found.differences.items():
        print_table(console, run_differences_table(k, differences, margin_points), _ERRORS_DISPENSABLE)
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
    from ensemble_eval.results.compare import compare, decisions_table

    rows = compare(one, other)
    table = decisions_table(rows, f"single decisions of {one.folder} and {other.folder}:")
    print_table(console, table, _DECISIONS_DISPENSABLE)
    for name, differing in (
        ("top-5", [row.top5_differs for row in rows]),
        ("top-1", [row.top1_differs for row in rows]),
    ):
        print_sentence(console, _sentence(name, differing, sum(row.images for row in rows)))


def _sentence(name: str, differing: Sequence[int | None], decisions: int) -> str:
    known = [count for count in differing if count is not None]
    if len(known) < len(differing):
        return f"{name}: not known for every image, because a run stopped when it was decided"
    return (
        f"{name}: {sum(known)} of {decisions} decisions differ, {1000 * sum(known) / decisions:.2f} in a thousand"
    )
