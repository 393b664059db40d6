"""From measurements on a GPU to the text of results-cuda.md. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.results import Spread, spread


@dataclass(frozen=True)
class Timed:
    """One measurement.

    Attributes:
        key: of what was measured.
        round: in which round.
        images: how many; for the forward pass alone, crops.
        passes: those of the answer; 0 for what runs none.
        seconds: for all of them.
    """

    key: str
    round: int
    images: int
    passes: int
    seconds: float


@dataclass(frozen=True)
class Line:
    """What the table says of a contender beside its measurements.

    Attributes:
        title: what it is.
        passes_per_image: of its answer; 0 where images are not what it is about.
        bound_by: the keys of what it cannot be faster than.
    """

    title: str
    passes_per_image: int
    bound_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ceilings:
    """Passes a second that the device's arithmetic and its memory would allow."""

    arithmetic: float
    bandwidth: float


def results_text(
    lines: Mapping[str, Line],
    measured: Sequence[Timed],
    ceilings: Ceilings,
    facts: Mapping[str, str],
    notes: Sequence[str],
) -> str:
    """The whole of results-cuda.md.

    Args:
        lines: of the table, by key, in its order.
        measured: in all rounds.
        ceilings: of the device.
        facts: device, clocks, versions, command, by name.
        notes: sentences below the table.
    """
    head = [
        "| | images/s | passes/s | n | of its bound | of the arithmetic | of the bandwidth |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    rows = [_row(key, line, lines, measured, ceilings) for key, line in lines.items()]
    return "\n".join(
        [
            "# On a GPU, side by side",
            "",
            *(f"- {name}: {fact}" for name, fact in facts.items()),
            "",
            *head,
            *(row for row in rows if row),
            "",
            *(f"- {note}" for note in notes),
            "",
        ]
    )


def bound_ratio(key: str, lines: Mapping[str, Line], measured: Sequence[Timed]) -> Spread | None:
    """A contender's rate over the least of those that bound it, round by round; None where no round has all."""
    line, own = lines[key], _by_round(key, measured)
    bounds = [_by_round(other, measured) for other in line.bound_by]
    ratios = []
    for number, one in own.items():
        if bounds and all(number in rounds for rounds in bounds):
            least = min(_allows(rounds[number], line) for rounds in bounds)
            ratios.append(one.passes / one.seconds / least)
    return spread(ratios) if ratios else None


def _allows(one: Timed, line: Line) -> float:
    """Passes a second of `line` that a bound, as it was measured, allows."""
    if one.passes:
        return one.passes / one.seconds
    return one.images / one.seconds * line.passes_per_image


def _row(
    key: str, line: Line, lines: Mapping[str, Line], measured: Sequence[Timed], ceilings: Ceilings
) -> str | None:
    own = list(_by_round(key, measured).values())
    if not own:
        return None
    images = spread([one.images / one.seconds for one in own])
    passes = spread([one.passes / one.seconds for one in own])
    ratio = bound_ratio(key, lines, measured)
    runs = passes.median > 0
    cells = [
        line.title,
        images.text(1) if line.passes_per_image or not runs else "",
        passes.text(0) if runs else "",
        str(len(own)),
        ratio.text(2) if ratio else "",
        f"{passes.median / ceilings.arithmetic:.0%}" if runs else "",
        f"{passes.median / ceilings.bandwidth:.0%}" if runs else "",
    ]
    return f"| {' | '.join(cells)} |"


def _by_round(key: str, measured: Sequence[Timed]) -> dict[int, Timed]:
    return {one.round: one for one in measured if one.key == key}
