"""From measurements to the text of results.md. Pure."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.work import Cost

OURS, UNTIL_DECIDED, BOUND, SIX_RUNS = "a", "b", "g", "d"
SCRIPT, SCRIPT_LARGEST = "c", "c144"


@dataclass(frozen=True)
class Measurement:
    """What one contender did in one round."""

    contender: str
    round: int
    cost: Cost


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of `n` values."""

    median: float
    low: float
    high: float
    n: int

    def text(self, decimals: int, suffix: str = "") -> str:
        """`median (low–high)`."""
        return f"{self.median:.{decimals}f}{suffix} ({self.low:.{decimals}f}–{self.high:.{decimals}f})"


@dataclass(frozen=True)
class Target:
    """How many times as fast as another contender one of ours means to be."""

    ours: str
    other: str
    least: float
    meaning: str


def useful_rate(measurement: Measurement) -> float:
    """Useful passes per second."""
    return measurement.cost.useful / measurement.cost.seconds


def run_rate(measurement: Measurement) -> float:
    """Forward passes per second."""
    return measurement.cost.run / measurement.cost.seconds


def spread(values: Sequence[float]) -> Spread:
    """Of one or more values."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def paired_ratio(measurements: Sequence[Measurement], over: str, under: str) -> Spread | None:
    """One contender's useful rate over another's, round by round; None where no round has both."""
    upper, lower = _by_round(measurements, over), _by_round(measurements, under)
    ratios = [upper[number] / lower[number] for number in sorted(upper.keys() & lower.keys())]
    return spread(ratios) if ratios else None


def best_script(measurements: Sequence[Measurement]) -> str | None:
    """The script's batch size with the highest median rate, as the contender's key."""
    keys = sorted({one.contender for one in measurements if one.contender.startswith(SCRIPT)})
    medians = {key: spread(list(_by_round(measurements, key).values())).median for key in keys}
    return max(medians, key=lambda key: medians[key], default=None)


def targets(measurements: Sequence[Measurement], *, trained: bool) -> list[Target]:
    """What is asked for; reported, never enforced. What `--until-decided` saves only trained networks show."""
    best = best_script(measurements) or SCRIPT_LARGEST
    full = [
        Target(OURS, BOUND, 0.95, "full over the bound"),
        Target(OURS, SCRIPT_LARGEST, 3.0, "full over the script with batches of 144"),
        Target(OURS, best, 1.6, f"full over the script with its best batch ({best})"),
        Target(OURS, SIX_RUNS, 12.0, "full over six runs"),
    ]
    decided = [
        Target(UNTIL_DECIDED, OURS, 2.4, "until decided over full"),
        Target(UNTIL_DECIDED, SCRIPT_LARGEST, 7.0, "until decided over the script with batches of 144"),
        Target(UNTIL_DECIDED, SIX_RUNS, 28.0, "until decided over six runs"),
    ]
    return [*full, *decided] if trained else full


def results_text(
    titles: Mapping[str, str],
    measurements: Sequence[Measurement],
    facts: Mapping[str, str],
    notes: Sequence[str],
    *,
    trained: bool = False,
) -> str:
    """The whole of results.md.

    Args:
        titles: what each contender is, in the table's order; those without a measurement are left out.
        measurements: of all rounds.
        facts: machine, versions, date, command, by name.
        notes: sentences below the tables.
        trained: whether the networks are.
    """
    lines = ["# Passes per second, side by side", "", *(f"- {name}: {fact}" for name, fact in facts.items()), ""]
    lines += _contender_table(titles, measurements)
    lines += [
        "",
        "## Against the targets",
        "",
        *_target_table(measurements, trained=trained),
        "",
        *(f"- {note}" for note in notes),
    ]
    return "\n".join(lines) + "\n"


def _contender_table(titles: Mapping[str, str], measurements: Sequence[Measurement]) -> list[str]:
    lines = [
        "| | contender | images | useful passes/s | forward passes/s | run/useful | n | ours over it |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for key, title in titles.items():
        own = [one for one in measurements if one.contender == key]
        if own:
            lines.append(_contender_line(key, title, own, paired_ratio(measurements, OURS, key)))
    return lines


def _contender_line(key: str, title: str, own: Sequence[Measurement], ratio: Spread | None) -> str:
    useful = spread([useful_rate(one) for one in own])
    run = spread([run_rate(one) for one in own])
    share = statistics.median(one.cost.run / one.cost.useful for one in own)
    cells = [key, title, str(own[0].cost.images), useful.text(1), run.text(1), f"{share:.0%}", str(useful.n)]
    cells.append("–" if ratio is None or key == OURS else ratio.text(2, "×"))
    return f"| {' | '.join(cells)} |"


def _target_table(measurements: Sequence[Measurement], *, trained: bool) -> list[str]:
    lines = ["| ours | asked | measured | n | reached |", "|---|--:|--:|--:|---|"]
    for target in targets(measurements, trained=trained):
        ratio = paired_ratio(measurements, target.ours, target.other)
        measured = ["–", "0", "not measured"]
        if ratio is not None:
            measured = [ratio.text(2, "×"), str(ratio.n), "yes" if ratio.median >= target.least else "no"]
        lines.append(f"| {' | '.join([target.meaning, f'{target.least:g}×', *measured])} |")
    return lines


def _by_round(measurements: Sequence[Measurement], contender: str) -> dict[int, float]:
    return {one.round: useful_rate(one) for one in measurements if one.contender == contender}
