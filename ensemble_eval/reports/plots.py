"""The plots of a report, drawn from the analyses of a run. Equal numbers give byte-identical files."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.paper.published import Published
from ensemble_eval.results.analyses import Analyses
from ensemble_eval.results.class_tables import reliability_curves
from ensemble_eval.results.crop_study import CropStudy
from ensemble_eval.results.row_tables import NOT_COMPARABLE
from ensemble_eval.scoring.calibration import Reliability
from ensemble_eval.scoring.classes import ClassAnalysis
from ensemble_eval.scoring.subsets import GreedySelection, SizeSummary
from ensemble_eval.scoring.table3 import TOP_5, Row, table3
from ensemble_eval.tables.drawing import COLOURS, MARKERS, PALETTE, Plot, axes, finished

_QUIET = PALETTE["quiet"].light
_ROW_INCHES = 0.34
# Cells of larger matrices are too small for numbers.
_MAX_NUMBERED = 12


def row_plots(found: Analyses, study: CropStudy | None, *, with_paper: bool) -> list[Plot]:
    """Plots of the rows of Table 3, with their intervals and against their cost.

    Args:
        found: The analyses of a run.
        study: The errors for every number of models and crops; None if the run did not store them (`surface`).
        with_paper: Whether to draw the paper's errors.
    """
    rows = table3(found.decisions)
    published = found.published if with_paper else None
    plots = [rows_plot(rows, published, NOT_COMPARABLE if found.counted else "")]
    if study is None:
        return [*plots, cost_plot(rows)]
    errors = study.surface(TOP_5)["error_percent"].to_numpy(np.float64).reshape(len(study.members), study.crops)
    return [*plots, cost_plot(rows, errors), surface_plot(errors, rows)]


def member_plots(found: Analyses) -> list[Plot]:
    """Plots of the ensembles of each size and of the correlations of errors, with the largest scheme."""
    crops = found.decisions.crops[-1]
    plots = []
    if (ensembles := found.ensembles.get((TOP_5, crops))) and len(ensembles.sizes) > 1:
        plots.append(sizes_plot(ensembles.sizes, ensembles.greedy, crops))
    if len(names := found.decisions.members) > 1:
        matrix = np.full((len(names), len(names)), np.nan)
        for pair in found.members[TOP_5, crops].diversity:
            if pair.error_correlation is not None:
                matrix[pair.one, pair.other] = matrix[pair.other, pair.one] = pair.error_correlation
        plots.append(diversity_plot(names, matrix, crops))
    return plots


def calibration_plots(found: Analyses) -> list[Plot]:
    """The reliability diagram of the first and the last row, and of the last row after temperature scaling."""
    last = found.configurations[-1]
    curves = {
        str(row) if fit is None else f"{row}, T = {fit.temperature:.2f}": reliability
        for row, fit, reliability in reliability_curves(found)
        if row == last or (row == found.configurations[0] and fit is None)
    }
    return [reliability_plot(curves)] if curves else []


def class_plots(found: Analyses) -> list[Plot]:
    """The error of each class in the first and in the last row."""
    classes = found.classes
    return [classes_plot(classes)] if TOP_5 in classes.errors and classes.first != classes.last else []


def rows_plot(rows: Sequence[Row], published: Published | None, comparable: str = "") -> Plot:
    """The rows of Table 3 with their intervals, and published errors beside them.

    Args:
        rows: The rows, at least one.
        published: The published errors; None to leave them out.
        comparable: Says in the legend that these are not comparable; empty if they are.
    """
    with axes(0.9 + _ROW_INCHES * len(rows)) as (figure, plot):
        errors, heights = [row.top5_error for row in rows], np.arange(len(rows))
        plot.errorbar(errors, heights, xerr=_reach(rows), fmt="o", color=COLOURS[0], capsize=3, label="this run")
        beside = [published.errors.get((row.models, row.crops)) if published else None for row in rows]
        known = [(each.top5_error, position) for position, each in enumerate(beside) if each is not None]
        if known and published:
            label = ", ".join(filter(None, (published.who, comparable)))
            plot.plot(*zip(*known, strict=True), "D", color=COLOURS[1], fillstyle="none", label=label)
            figure.legend(loc="outside upper right", ncols=2)
        plot.set_yticks(heights, [str(row) for row in rows])
        plot.set(axisbelow=True, xlabel="top-5 error, percent, with its 95% interval", ylabel="models × crops")
        plot.grid(axis="x")
        plot.set_xlim(left=0)
        plot.set_ylim(len(rows) - 0.5, -0.5)
        listed = "; ".join(f"{row} {row.top5_error:.2f}%" for row in rows)
        alternative = f"Top-5 errors of the rows of Table 3 with their intervals: {listed}."
        return finished(figure, "rows", "Errors of the rows of Table 3", alternative, "table3")


def cost_plot(rows: Sequence[Row], surface: NDArray[np.float64] | None = None) -> Plot:
    """The errors of the rows of Table 3 against their cost.

    Args:
        rows: The rows.
        surface: The errors of `surface_plot`, a line for each number of models; None if not known.
    """
    with axes(3.6) as (figure, plot):
        lines = [] if surface is None else list(surface)
        for number, (line, shade) in enumerate(zip(lines, np.linspace(0.25, 1, len(lines)), strict=True), 1):
            plot.plot(
                number * np.arange(1, len(line) + 1), line, color=COLOURS[2], alpha=float(shade), linewidth=0.9
            )
        row_costs, errors = [row.cost for row in rows], [row.top5_error for row in rows]
        plot.errorbar(row_costs, errors, yerr=_reach(rows), fmt="o", color=COLOURS[0], capsize=3)
        for row in rows:
            # One model above its mark and several below, so that labels of similar costs do not overlap.
            beside = (5, 5) if row.models == 1 else (5, -13)
            at = (row.cost, row.top5_error)
            plot.annotate(str(row), at, beside, textcoords="offset points", fontsize=9)
        plot.set_xscale("log")
        plot.set_xticks(row_costs, list(map(str, row_costs)))
        plot.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        plot.set_ylim(bottom=0)
        plot.margins(x=0.12)
        plot.grid(axis="y")
        plot.set(
            axisbelow=True, xlabel="cost: passes of one crop through one model", ylabel="top-5 error, percent"
        )
        first, last, title = rows[0], rows[-1], "Error against cost"
        alternative = (
            f"Top-5 error goes from {first.top5_error:.2f}% at {first.cost} passes "
            f"({first}) to {last.top5_error:.2f}% at {last.cost} ({last})."
        )
        if lines:
            alternative += f" A line for each number of models from 1 to {len(lines)} shows every number of crops."
            title = f"Error against cost: a line for the first 1 to {len(lines)} models, darker for more models"
        return finished(figure, "cost", title, alternative, "surface" if lines else "table3")


def sizes_plot(sizes: Sequence[SizeSummary], greedy: GreedySelection | None, crops: int) -> Plot:
    """The error of the ensembles of each size (mean, best and worst), and that of greedy selection.

    Args:
        sizes: A summary of the ensembles of each number of members, all with one scheme.
        greedy: Greedy selection from the same members, with its cross-validated errors; None to leave it out.
        crops: The number of crops of the scheme.
    """
    with axes() as (figure, plot):
        members, mean = [each.size for each in sizes], np.array([each.mean_error_percent for each in sizes])
        best, worst = ([each.best_error_percent for each in sizes], [each.worst_error_percent for each in sizes])
        reach = np.maximum([mean - best, worst - mean], 0)
        label = "mean; bars from best to worst"
        plot.errorbar(members, mean, yerr=reach, fmt="o-", color=COLOURS[0], capsize=3, label=label)
        if greedy is not None:
            label, errors = "greedy selection, cross-validated", greedy.cross_validated_error_percent
            plot.plot(members, errors, "s--", color=COLOURS[1], fillstyle="none", label=label)
        plot.set_xticks(members)
        plot.grid(axis="y")
        plot.set(axisbelow=True, xlabel=f"members, {crops} crops each", ylabel="top-5 error, percent")
        plot.legend(loc="best")
        listed = "; ".join(f"{each.size}: {each.mean_error_percent:.2f}%" for each in sizes)
        alternative = f"Mean top-5 error of the ensembles of each number of members: {listed}."
        return finished(figure, "sizes", "Error for each number of members", alternative, "sizes")


def diversity_plot(names: Sequence[str], correlations: NDArray[np.float64], crops: int) -> Plot:
    """The correlations of the members' errors as colours, with numbers where they fit.

    Args:
        names: The names of the members.
        correlations: float64 [members, members]; NaN where a value is not known.
        crops: The number of crops of the scheme.
    """
    with axes(1.2 + 0.36 * len(names)) as (figure, plot):
        picture = plot.imshow(correlations, cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
        if len(names) <= _MAX_NUMBERED:
            for row, column in np.argwhere(~np.isnan(correlations)):
                value = correlations[row, column]
                ink = "#000000" if value > 0.55 else "#fefefe"
                plot.text(column, row, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=8)
        short = [name if len(name) <= 14 else f"{name[:13]}…" for name in names]
        plot.set_xticks(range(len(names)), short, rotation=90 if max(map(len, names)) > 3 else 0)
        plot.set_yticks(range(len(names)), short)
        plot.spines[:].set_visible(False)
        figure.colorbar(picture, ax=plot)
        known = correlations[~np.isnan(correlations)]
        listed = (
            f"from {known.min():.2f} to {known.max():.2f}" if len(known) else "not known: a member has no errors"
        )
        title = f"Correlation of the members' top-5 errors, {crops} crops"
        alternative = f"Correlations of the top-5 errors of each pair of members, {listed}."
        return finished(figure, "diversity", title, alternative, "diversity")


def surface_plot(error_percent: NDArray[np.float64], rows: Sequence[Row]) -> Plot:
    """The error for every number of models and crops, as colours; the first models and crops in their order.

    Args:
        error_percent: float64 [models, crops], for 1 model and 1 crop upwards.
        rows: The rows of Table 3, which are marked.
    """
    models, crops = error_percent.shape
    with axes(1.3 + 0.28 * models) as (figure, plot):
        extent = (0.5, crops + 0.5, models + 0.5, 0.5)
        picture = plot.imshow(error_percent, cmap="cividis", aspect="auto", interpolation="nearest", extent=extent)
        marked = [(row.crops, row.models) for row in rows if row.models <= models and row.crops <= crops]
        if marked:
            plot.plot(*zip(*marked, strict=True), "o", color="#fefefe", markeredgecolor="#000000", clip_on=False)
        plot.set_yticks(range(1, models + 1))
        plot.set(xlabel="first n crops", ylabel="first n models")
        figure.colorbar(picture, ax=plot, label="top-5 error, percent")
        best = np.unravel_index(int(error_percent.argmin()), error_percent.shape)
        alternative = (
            f"Top-5 error of the first 1 to {models} models and 1 to {crops} crops, from "
            f"{error_percent[0, 0]:.2f}% at 1×1 to {error_percent[-1, -1]:.2f}% at {models}×{crops}; the lowest "
            f"is {error_percent.min():.2f}% at {best[0] + 1}×{best[1] + 1}. The rows of Table 3 are marked."
        )
        return finished(figure, "surface", "Error for every number of models and crops", alternative, "surface")


def reliability_plot(curves: Mapping[str, Reliability]) -> Plot:
    """Accuracy against confidence, for at most three curves. Below the diagonal, a row is overconfident."""
    with axes(4.2) as (figure, plot):
        plot.plot([0, 1], [0, 1], color=_QUIET, linestyle=":", label="calibrated")
        for (label, curve), colour, marker in zip(curves.items(), COLOURS, MARKERS, strict=False):
            filled = [(each.mean_confidence, each.accuracy) for each in curve.bins if each.images]
            plot.plot(*zip(*filled, strict=True), f"{marker}-", color=colour, markersize=4, label=label)
        plot.set(axisbelow=True, xlim=(0, 1), ylim=(0, 1))
        plot.set(xlabel="mean confidence of the bin", ylabel="top-1 accuracy of the bin")
        plot.set_box_aspect(1)
        plot.grid()
        plot.legend(loc="upper left")
        listed = "; ".join(f"{label} {each.expected_calibration_error:.3f}" for label, each in curves.items())
        alternative = f"Accuracy against confidence by bins. Expected calibration errors: {listed}."
        return finished(figure, "reliability", "Reliability diagram", alternative, "reliability")


def classes_plot(classes: ClassAnalysis) -> Plot:
    """The top-5 error of each class in two rows: below the diagonal the last row has fewer errors."""
    errors = [(each.first_error_percent, each.last_error_percent) for each in classes.errors[TOP_5]]
    pairs, counts = np.unique(np.round(errors, 4), axis=0, return_counts=True)
    with axes(4.2) as (figure, plot):
        highest = max(1.0, float(pairs.max()) * 1.05)
        plot.plot([0, highest], [0, highest], color=_QUIET, linestyle=":")
        sizes = 16 + 4 * np.minimum(counts, 60)
        plot.scatter(pairs[:, 0], pairs[:, 1], s=sizes, color=COLOURS[0], alpha=0.6, linewidths=0)
        plot.set(axisbelow=True, xlim=(-0.03 * highest, highest), ylim=(-0.03 * highest, highest))
        plot.set(xlabel=f"top-5 error with {classes.first}, percent", ylabel=f"with {classes.last}, percent")
        plot.set_box_aspect(1)
        plot.grid()
        better, worse = (int((np.sign(pairs[:, 1] - pairs[:, 0]) == sign) @ counts) for sign in (-1, 1))
        alternative = (
            f"Top-5 error of each of {len(errors)} classes with {classes.first} and with {classes.last}: it falls "
            f"in {better} classes, rises in {worse}, and stays in {len(errors) - better - worse}."
        )
        return finished(figure, "classes", "Error of each class", alternative, f"classes_top{TOP_5}")


def _reach(rows: Sequence[Row]) -> NDArray[np.float64]:
    """The lengths of the error bars: float64 [2, rows], below and above the error."""
    arms = [(row.top5_error - row.top5_low, row.top5_high - row.top5_error) for row in rows]
    reach: NDArray[np.float64] = np.maximum(np.transpose(arms), 0)
    return reach
