"""The plots of a report: pure functions of numbers, the same bytes for the same numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.scoring.coverage import Coverage
from ensemble_eval.tables.drawing import PALETTE, Plot, axes, finished

_COLOURS = [PALETTE[f"series-{number}"].light for number in (1, 2, 3)]
_MARKERS = ["o", "s", "^"]
_QUIET = PALETTE["quiet"].light
_ROW_INCHES = 0.34
# Cells with their numbers in them; beyond, colours alone.
_MOST_NUMBERED = 12


@dataclass(frozen=True)
class ErrorPoint:
    """One row of Table 3 to draw.

    Attributes:
        label: models × crops.
        cost: models times crops.
        error_percent: its top-5 error.
        low_percent, high_percent: its interval at 95%.
        paper_percent: what the paper prints; None where it has no such row.
    """

    label: str
    cost: int
    error_percent: float
    low_percent: float
    high_percent: float
    paper_percent: float | None = None


def rows_plot(points: Sequence[ErrorPoint], the_paper: str | None = "the paper") -> Plot:
    """The rows of Table 3 with their intervals, and the paper's errors beside them.

    Args:
        points: at least one.
        the_paper: what the legend calls the paper's errors; None to leave them out.
    """
    with axes(0.9 + _ROW_INCHES * len(points)) as (figure, plot):
        places = np.arange(len(points))
        errors = [each.error_percent for each in points]
        plot.errorbar(errors, places, xerr=_reach(points), fmt="o", color=_COLOURS[0], capsize=3, label="this run")
        known = [
            (each.paper_percent, place) for place, each in enumerate(points) if each.paper_percent is not None
        ]
        if known and the_paper:
            plot.plot(*zip(*known, strict=True), "D", color=_COLOURS[1], fillstyle="none", label=the_paper)
            figure.legend(loc="outside upper right", ncols=2)
        plot.set_yticks(places, [each.label for each in points])
        plot.set_ylim(len(points) - 0.5, -0.5)
        plot.grid(axis="x")
        plot.set_axisbelow(True)
        plot.set_xlim(left=0)
        plot.set_xlabel("top-5 error, percent, with its 95% interval")
        plot.set_ylabel("models × crops")
        said = "; ".join(f"{each.label} {each.error_percent:.2f}%" for each in points)
        alternative = f"Top-5 errors of the rows of Table 3 with their intervals: {said}."
        return finished(figure, "rows", "Errors of the rows of Table 3", alternative, "table3")


def cost_plot(
    points: Sequence[ErrorPoint], curves: Mapping[int, Sequence[tuple[int, float]]] | None = None
) -> Plot:
    """Error against cost, the rows of Table 3 marked.

    Args:
        points: the rows.
        curves: by number of models, pairs of cost and error in percent for every number of crops; None where a
            run kept no ranks.
    """
    with axes(3.6) as (figure, plot):
        shades = np.linspace(0.25, 1, max(1, len(curves or {})))
        for shade, curve in zip(shades, (curves or {}).values(), strict=False):
            plot.plot(*zip(*curve, strict=True), color=_COLOURS[2], alpha=float(shade), linewidth=0.9)
        costs, errors = [each.cost for each in points], [each.error_percent for each in points]
        plot.errorbar(costs, errors, yerr=_reach(points), fmt="o", color=_COLOURS[0], capsize=3)
        for each in points:
            at = (each.cost, each.error_percent)
            # One model above its mark and several below: rows of like cost do not write over each other.
            beside = (5, 5) if each.label.startswith("1×") else (5, -13)
            plot.annotate(each.label, at, beside, textcoords="offset points", fontsize=9)
        plot.set_xscale("log")
        plot.set_xticks(costs, [str(cost) for cost in costs])
        plot.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        plot.set_ylim(bottom=0)
        plot.margins(x=0.12)
        plot.grid(axis="y")
        plot.set_axisbelow(True)
        plot.set_xlabel("cost: passes of one crop through one model")
        plot.set_ylabel("top-5 error, percent")
        first, last, title = points[0], points[-1], "Error against cost"
        alternative = (
            f"Top-5 error falls or rises with cost from {first.error_percent:.2f}% at {first.cost} passes "
            f"({first.label}) to {last.error_percent:.2f}% at {last.cost} ({last.label})."
        )
        if curves:
            alternative += f" A line for each number of models from 1 to {max(curves)} passes through every crop."
            title = f"Error against cost: a line for each of the first 1 to {max(curves)} models, darker with more"
        return finished(figure, "cost", title, alternative, "surface" if curves else "table3")


@dataclass(frozen=True)
class SizeCurve:
    """The ensembles of each size, with one scheme.

    Attributes:
        sizes: members, ascending.
        mean_percent, best_percent, worst_percent: errors of the ensembles of each size.
        greedy_percent: cross-validated error of greedy selection at each size; None if there is none.
    """

    sizes: Sequence[int]
    mean_percent: Sequence[float]
    best_percent: Sequence[float]
    worst_percent: Sequence[float]
    greedy_percent: Sequence[float] | None


def sizes_plot(curve: SizeCurve, crops: int) -> Plot:
    """Error of the ensembles of each size: the mean, from best to worst, and greedy selection cross-validated.

    Args:
        curve: of one scheme.
        crops: the scheme.
    """
    with axes() as (figure, plot):
        low, high = (
            np.subtract(curve.mean_percent, curve.best_percent),
            np.subtract(curve.worst_percent, curve.mean_percent),
        )
        reach = np.maximum([low, high], 0)
        label = "mean, from best to worst"
        plot.errorbar(
            curve.sizes, curve.mean_percent, yerr=reach, fmt="o-", color=_COLOURS[0], capsize=3, label=label
        )
        if curve.greedy_percent is not None:
            label = "greedy selection, cross-validated"
            plot.plot(curve.sizes, curve.greedy_percent, "s--", color=_COLOURS[1], fillstyle="none", label=label)
        plot.set_xticks(list(curve.sizes))
        plot.grid(axis="y")
        plot.set_axisbelow(True)
        plot.set_xlabel(f"members, {crops} crops each")
        plot.set_ylabel("top-5 error, percent")
        plot.legend(loc="best")
        said = "; ".join(
            f"{size}: {mean:.2f}%" for size, mean in zip(curve.sizes, curve.mean_percent, strict=True)
        )
        alternative = f"Mean top-5 error of the ensembles of each number of members: {said}."
        return finished(figure, "sizes", "What each further member brings", alternative, "sizes")


def matrix_plot(
    names: Sequence[str], matrix: NDArray[np.float64], *, name: str, title: str, alternative: str, table: str
) -> Plot:
    """A symmetric matrix of members as colours, with numbers where they fit.

    Args:
        names: of the members.
        matrix: float64 [members, members]; NaN where a value is not known.
        name, title, alternative, table: see `Plot`.
    """
    with axes(1.2 + 0.36 * len(names)) as (figure, plot):
        picture = plot.imshow(matrix, cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
        if len(names) <= _MOST_NUMBERED:
            for row, column in np.argwhere(~np.isnan(matrix)):
                value = matrix[row, column]
                ink = "#000000" if value > 0.55 else "#fefefe"
                plot.text(column, row, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=8)
        plot.set_xticks(
            range(len(names)), [_short(each) for each in names], rotation=90 if _are_long(names) else 0
        )
        plot.set_yticks(range(len(names)), [_short(each) for each in names])
        plot.spines[:].set_visible(False)
        figure.colorbar(picture, ax=plot)
        return finished(figure, name, title, alternative, table)


def surface_plot(error_percent: NDArray[np.float64], marked: Sequence[tuple[int, int]]) -> Plot:
    """The error for the first so many models and crops as colours.

    Args:
        error_percent: float64 [models, crops], of the first models and crops.
        marked: models and crops of the rows of Table 3.
    """
    models, crops = error_percent.shape
    with axes(1.3 + 0.28 * models) as (figure, plot):
        extent = (0.5, crops + 0.5, models + 0.5, 0.5)
        picture = plot.imshow(error_percent, cmap="cividis", aspect="auto", interpolation="nearest", extent=extent)
        places = [(c, m) for m, c in marked if m <= models and c <= crops]
        if places:
            plot.plot(*zip(*places, strict=True), "o", color="#fefefe", markeredgecolor="#000000", clip_on=False)
        plot.set_yticks(range(1, models + 1))
        plot.set_xlabel("the first crops")
        plot.set_ylabel("the first models")
        figure.colorbar(picture, ax=plot, label="top-5 error, percent")
        best = np.unravel_index(int(error_percent.argmin()), error_percent.shape)
        alternative = (
            f"Top-5 error of the first 1 to {models} models and 1 to {crops} crops, from "
            f"{error_percent[0, 0]:.2f}% at 1×1 to {error_percent[-1, -1]:.2f}% at {models}×{crops}; the lowest "
            f"is {error_percent.min():.2f}% at {best[0] + 1}×{best[1] + 1}. The rows of Table 3 are marked."
        )
        return finished(figure, "surface", "Error for every number of models and crops", alternative, "surface")


@dataclass(frozen=True)
class ReliabilityCurve:
    """One line of a reliability diagram.

    Attributes:
        label: what it is of.
        confidence, accuracy: of the bins that hold images.
    """

    label: str
    confidence: Sequence[float]
    accuracy: Sequence[float]


def reliability_plot(curves: Sequence[ReliabilityCurve], errors: Mapping[str, float]) -> Plot:
    """Accuracy against confidence: below the diagonal a row is too sure of itself.

    Args:
        curves: at most three.
        errors: expected calibration error by label.
    """
    with axes(4.2) as (figure, plot):
        plot.plot([0, 1], [0, 1], color=_QUIET, linestyle=":", label="calibrated")
        for curve, colour, marker in zip(curves, _COLOURS, _MARKERS, strict=False):
            plot.plot(
                curve.confidence, curve.accuracy, f"{marker}-", color=colour, markersize=4, label=curve.label
            )
        plot.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean confidence of the bin", ylabel="top-1 accuracy of the bin")
        plot.set_box_aspect(1)
        plot.grid()
        plot.set_axisbelow(True)
        plot.legend(loc="upper left")
        said = "; ".join(f"{label} {error:.3f}" for label, error in errors.items())
        alternative = f"Accuracy against confidence by bins. Expected calibration errors: {said}."
        return finished(figure, "reliability", "Reliability diagram", alternative, "reliability")


def classes_plot(
    first_percent: Sequence[float], last_percent: Sequence[float], first: str, last: str, table: str
) -> Plot:
    """The error of each class in two rows: below the diagonal the last row has fewer errors.

    Args:
        first_percent, last_percent: [classes], errors.
        first, last: the rows' names.
        table: with the same numbers.
    """
    pairs, counts = np.unique(np.stack([first_percent, last_percent], axis=1).round(4), axis=0, return_counts=True)
    with axes(4.2) as (figure, plot):
        highest = max(1.0, float(pairs.max()) * 1.05)
        plot.plot([0, highest], [0, highest], color=_QUIET, linestyle=":")
        sizes = 16 + 4 * np.minimum(counts, 60)
        plot.scatter(pairs[:, 0], pairs[:, 1], s=sizes, color=_COLOURS[0], alpha=0.6, linewidths=0)
        plot.set(xlim=(-0.03 * highest, highest), ylim=(-0.03 * highest, highest))
        plot.set(xlabel=f"top-5 error with {first}, percent", ylabel=f"with {last}, percent")
        plot.set_box_aspect(1)
        plot.grid()
        plot.set_axisbelow(True)
        better, worse = (int((np.sign(pairs[:, 1] - pairs[:, 0]) == sign) @ counts) for sign in (-1, 1))
        alternative = (
            f"Top-5 error of each of {len(first_percent)} classes with {first} and with {last}: it falls in "
            f"{better} classes, rises in {worse}, and stays in {len(first_percent) - better - worse}."
        )
        return finished(figure, "classes", "Error of each class", alternative, table)


def coverage_plot(found: Mapping[str, Coverage]) -> Plot:
    """A line for each set of proposals: objects found at an overlap of one half, by proposals of each image.

    Args:
        found: The coverage of each set, by its name.
    """
    with axes(3.6) as (figure, plot):
        for place, (name, each) in enumerate(found.items()):
            # Beyond all of its proposals a curve would only go on level.
            reached = [budget for budget in each.boxes.tolist() if budget < 1.5 * each.boxes_per_image]
            plot.plot(
                reached,
                100 * each.at_half[: len(reached)],
                f"{_MARKERS[place % 3]}-",
                color=_COLOURS[place % 3],
                markersize=4,
                label=f"{name} ({each.boxes_per_image:.0f} an image)",
            )
        plot.set_xscale("log")
        plot.set_ylim(0, 100)
        plot.grid()
        plot.set_axisbelow(True)
        plot.set_xlabel("proposals of each image")
        plot.set_ylabel("coverage at an overlap of 0.5, percent")
        plot.legend(loc="lower right")
        said = "; ".join(
            f"{name} {100 * each.at_half[-1]:.1f}% with {each.boxes_per_image:.0f} an image"
            for name, each in found.items()
        )
        alternative = f"Objects that proposals find: {said}."
        return finished(figure, "coverage", "Coverage by number of proposals", alternative, "coverage")


def _reach(points: Sequence[ErrorPoint]) -> NDArray[np.float64]:
    """How far the intervals reach down and up: float64 [2, points]."""
    down = [each.error_percent - each.low_percent for each in points]
    up = [each.high_percent - each.error_percent for each in points]
    return np.maximum([down, up], 0)


def _short(name: str) -> str:
    return name if len(name) <= 14 else f"{name[:13]}…"


def _are_long(names: Sequence[str]) -> bool:
    return any(len(name) > 3 for name in names)
