"""`ensemble-eval compare`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ensemble_eval.cli.options import CLUSTER, MARGIN, PATH, command
from ensemble_eval.cli.output import print_sentence, warn
from ensemble_eval.cli.tables import print_table
from ensemble_eval.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from rich.console import Console

    from ensemble_eval.results.reading import StoredRun
    from ensemble_eval.scoring.clusters import Clusters

# Columns in the order in which they are left out; the difference, its interval and the verdict stay.
_ERRORS_DISPENSABLE = (
    "bootstrap",
    "adjusted_equivalence_p",
    "mcnemar_p",
    ("base_error", "other_error"),
    ("fixed", "broken"),
    "detectable",
    "adjusted_p",
)
# As above; member, crops and top-5 stay.
_DECISIONS_DISPENSABLE = ("rank", "top1", "scores")


@command("ensemble-eval compare results-float32 results-bfloat16")
@click.argument("runs", metavar="DIR DIR...", nargs=-1, type=PATH)
@MARGIN
@CLUSTER
@click.option("--across-protocols", is_flag=True, help="Compare the rules of runs with different protocols.")
def compare(runs: tuple[Path, ...], margin: float, cluster: Path | None, across_protocols: bool) -> None:
    """Compare two or more runs over the same images, given their --out folders.

    Each run is compared with the first: one model and all models, with each scheme. The output shows how many
    images the run fixes and breaks, the difference of the errors with its interval, and whether a test finds it
    better, worse, or equal within --margin. The runs may have different members. This needs the extra [report].

    Where members and schemes are the same, the output also counts the images that only one of the two runs gets
    right, and those whose label has a different rank. Where both runs stored scores, it shows the largest
    difference between two scores.
    """
    from rich.console import Console

    from ensemble_eval.results.compare import require_same_rows
    from ensemble_eval.results.reading import read_clusters, read_run

    if len(runs) < 2:
        raise InputError("name two or more output folders; the first is what the others are compared with")
    opened = [read_run(run) for run in runs]
    clusters = read_clusters(cluster, opened[0])
    console = Console(markup=False, emoji=False)
    try:
        _print_errors(console, opened, margin, clusters, across_protocols=across_protocols)
    except MissingExtraError as error:
        warn(f"no tests and intervals: {error}")
    for other in opened[1:]:
        try:
            require_same_rows(opened[0], other)
        except InputError as error:
            print_sentence(console, f"Single decisions are not compared: {error}")
        else:
            _print_decisions(console, opened[0], other)


def _print_errors(
    console: "Console",
    runs: Sequence["StoredRun"],
    margin_points: float,
    clusters: "Clusters",
    *,
    across_protocols: bool,
) -> None:
    """Print how the errors of several runs differ from those of the first, a table for each error."""
    from ensemble_eval.results.compare import compare_errors, run_differences_table

    found = compare_errors(runs, margin_points=margin_points, across_protocols=across_protocols, clusters=clusters)
    print_sentence(console, f"{len(runs)} runs over the same {len(runs[0].images)} images")
    for position, (run, member) in enumerate(zip(runs, found.one_model_members, strict=True), 1):
        print_sentence(console, f"run {position} is {run.folder}; its one model is {member}")
    for k, differences in found.differences.items():
        print_table(console, run_differences_table(k, differences, margin_points, clusters), _ERRORS_DISPENSABLE)
    if 1 not in found.differences:
        print_sentence(console, "top-1: not known for every image, because a run used --until-decided")
    if found.left_out_crops:
        schemes = ", ".join(map(str, found.left_out_crops))
        print_sentence(console, f"left out, because not all runs have these schemes: {schemes} crops")


def _print_decisions(console: "Console", one: "StoredRun", other: "StoredRun") -> None:
    """Print in how many decisions, ranks and scores two runs differ, by member and scheme."""
    from ensemble_eval.results.compare import compare, decisions_table

    rows = compare(one, other)
    table = decisions_table(rows, f"single decisions of {one.folder} and {other.folder}:")
    print_table(console, table, _DECISIONS_DISPENSABLE)
    decisions = sum(row.images for row in rows)
    print_sentence(console, _sentence("top-5", [row.top5_differs for row in rows], decisions))
    print_sentence(console, _sentence("top-1", [row.top1_differs for row in rows], decisions))


def _sentence(name: str, differing: Sequence[int | None], decisions: int) -> str:
    known = [count for count in differing if count is not None]
    if len(known) < len(differing):
        return f"{name}: not known for every image, because a run used --until-decided"
    return (
        f"{name}: {sum(known)} of {decisions} decisions differ, {1000 * sum(known) / decisions:.2f} in a thousand"
    )
