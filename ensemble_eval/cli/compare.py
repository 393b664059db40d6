"""`ensemble-eval compare`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ensemble_eval.cli.options import PATH

if TYPE_CHECKING:
    from ensemble_eval.results.compare import Comparison

_HEADER = ("member", "crops", "top-5 differs", "top-1 differs", "rank differs", "scores differ by")
# The first to go where there is no room; member, crops and the top-5 stay.
_DISPENSABLE = ("rank differs", "top-1 differs", "scores differ by")


@click.command()
@click.argument("one", metavar="DIR", type=PATH)
@click.argument("other", metavar="DIR", type=PATH)
def compare(one: Path, other: Path) -> None:
    """Compare two runs over the same images, given their --out folders.

    Counts the images that only one of them decides right, and those whose label has another rank, by member and
    scheme. Where both stored scores, it tells the largest difference between two of them.
    """
    from rich.console import Console

    from ensemble_eval.cli.output import print_sentence
    from ensemble_eval.cli.tables import print_table
    from ensemble_eval.results.compare import compare as compare_results
    from ensemble_eval.results.reading import read_results

    rows = compare_results(read_results(one), read_results(other))
    console = Console(markup=False, emoji=False)
    print_sentence(console, f"Two runs over the same {rows[0].images} images")
    dispensable = [(_HEADER.index(title),) for title in _DISPENSABLE]
    print_table(console, _HEADER, [_cells(row) for row in rows], dispensable, left_aligned=(0,))
    for name, differing in (
        ("top-5", [row.top5_differs for row in rows]),
        ("top-1", [row.top1_differs for row in rows]),
    ):
        print_sentence(console, _sentence(name, differing, sum(row.images for row in rows)))


def _cells(row: "Comparison") -> list[str]:
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
