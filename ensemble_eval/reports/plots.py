"""The plots of a report, which notebooks draw too. Equal numbers give byte-identical files.

Text appears only on axes and in legends above them, so no text overlaps other text.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.paper.published import Published
from ensemble_eval.results.analyses import Analyses
from ensemble_eval.results.class_tables import ClassNames, reliability_curves
from ensemble_eval.results.crop_study import CropStudy
from ensemble_eval.scoring.calibration import Reliability, ReliabilityBin
from ensemble_eval.scoring.classes import ClassAnalysis
from ensemble_eval.scoring.subsets import GreedySelection, SizeSummary
from ensemble_eval.scoring.table3 import TOP_5, Configuration, Row, table3
from ensemble_eval.tables.drawing import COLOURS, MARKERS, PALETTE, Description, Plot
from ensemble_eval.tables.table import in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_QUIET = PALETTE["quiet"].light
_ROW_INCHES = 0.34
_NAME_CHARACTERS = 14
_LONG_AXIS = 30


def crop_plots(found: Analyses, study: CropStudy | None) -> list[Plot]:
    """Error against cost, and for every number of models and crops if the run stored it."""
    rows = table3(found.decisions)
    if study is None:
        return [cost_plot(rows)] if len(rows) > 1 else []
    errors = study.error_percent(TOP_5)
    return [cost_plot(rows, errors), surface_plot(errors, rows)]


def size_plots(found: Analyses) -> list[Plot]:
    """The ensembles of each size, with the largest scheme."""
    crops = found.decisions.crops[-1]
    ensembles = found.ensembles.get((TOP_5, crops))
    if ensembles is None or len(ensembles.sizes) == 1:
        return []
    return [sizes_plot(ensembles.sizes, ensembles.greedy, crops)]


def calibration_plots(found: Analyses) -> list[Plot]:
    """The reliability diagram of the first and the last row, and of the last row after temperature scaling."""
    last = found.configurations[-1]
    curves = {
        str(row) if fit is None else f"{row}, T = {fit.temperature:.2f}": reliability
        for row, fit, reliability in reliability_curves(found)
        if row == last or (row == found.configurations[0] and fit is None)
    }
    return [calibration_plot(curves)] if curves else []


def class_plots(found: Analyses, names: ClassNames) -> list[Plot]:
    """The error of each class in the first and in the last row."""
    classes = found.classes
    return [classes_plot(classes, names)] if TOP_5 in classes.errors and classes.first != classes.last else []


def table3_plot(rows: Sequence[Row], published: Published | None, comparable: str = "") -> Plot:
    """The rows of Table 3 with their intervals, and published errors beside them.

    Args:
        rows: The rows, at least one.
        published: The published errors; None to leave them out.
        comparable: Says in the legend that these are not comparable; empty if they are.
    """

    def draw(plot: "Axes") -> Description:
        errors, heights = [row.top5_error for row in rows], np.arange(len(rows))
        plot.errorbar(errors, heights, xerr=_reach(rows), fmt="o", color=COLOURS[0], capsize=3, label="this run")
        points = [(row.top5_error, float(height), _numbers(row)) for height, row in enumerate(rows)]
        known = [published.errors.get((row.models, row.crops)) if published else None for row in rows]
        beside = [(each.top5_error, float(height)) for height, each in enumerate(known) if each is not None]
        if published and beside:
            label = ", ".join(filter(None, (published.who, comparable)))
            plot.plot(*zip(*beside, strict=True), "D", color=COLOURS[1], fillstyle="none", label=label)
            points += [(x, y, f"{published.who}, {rows[int(y)]}: {x:.2f}%") for x, y in beside]
        plot.set_yticks(heights, [str(row) for row in rows])
        plot.set(xlabel="top-5 error, percent, with its 95% interval", ylabel="models × crops")
        _from_zero(plot, "x")
        plot.set_ylim(len(rows) - 0.5, -0.5)
        _finish(plot, grid="x")
        listed = "; ".join(f"{row} {row.top5_error:.2f}%" for row in rows)
        return Description(f"Top-5 errors of the rows of Table 3 with their intervals: {listed}.", points)

    title = "Top-5 error of each row of Table 3, with its 95% interval"
    return Plot("rows", title, "table3", draw, 1.1 + _ROW_INCHES * len(rows))


def cost_plot(rows: Sequence[Row], surface: NDArray[np.float64] | None = None) -> Plot:
    """The errors of the rows of Table 3 against their cost, a line for one model and one for all models.

    Args:
        rows: The rows.
        surface: The errors of `surface_plot`, for a line through every number of crops; None if not known.
    """

    def draw(plot: "Axes") -> Description:
        points = [(float(row.cost), row.top5_error, _numbers(row)) for row in rows]
        for models, colour, marker in zip(
            dict.fromkeys(row.models for row in rows), COLOURS, MARKERS, strict=False
        ):
            some = [row for row in rows if row.models == models]
            costs, errors = [row.cost for row in some], [row.top5_error for row in some]
            line, label = "-", in_words(models, "model")
            if surface is not None and models == len(surface) > 1:
                every = models * np.arange(1, surface.shape[1] + 1)
                plot.plot(every, surface[-1], color=colour, linewidth=0.9)
                line = ""
                points += [
                    (float(at), error, f"{models}×{at // models}: {error:.2f}%")
                    for at, error in zip(every.tolist(), surface[-1].tolist(), strict=True)
                ]
            shape = f"{marker}{line}"
            plot.errorbar(costs, errors, yerr=_reach(some), fmt=shape, color=colour, capsize=3, label=label)
        from matplotlib.ticker import LogLocator

        plot.set_xscale("log")
        # A short axis may lie between two powers of ten.
        is_short = rows[-1].cost < _LONG_AXIS * rows[0].cost
        plot.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if is_short else (1,)))
        plot.xaxis.set_major_formatter("{x:g}")
        plot.xaxis.set_minor_formatter("")
        _from_zero(plot, "y")
        plot.set(xlabel="passes per image: models × crops", ylabel="top-5 error, percent")
        _finish(plot, grid="y")
        first, last = rows[0], rows[-1]
        return Description(
            f"Top-5 error goes from {first.top5_error:.2f}% ({first}, cost {first.cost:,}) to "
            f"{last.top5_error:.2f}% ({last}, cost {last.cost:,}). The cost is the number of passes per image.",
            points,
        )

    title = "Top-5 error against cost, with 95% intervals"
    return Plot("cost", title, "table3" if surface is None else "surface", draw)


def surface_plot(error_percent: NDArray[np.float64], rows: Sequence[Row]) -> Plot:
    """The error for every number of models and crops, as colours; the first models and crops in their order.

    Args:
        error_percent: float64 [models, crops], for 1 model and 1 crop upwards.
        rows: The rows of Table 3, which are marked.
    """
    models, crops = error_percent.shape

    def draw(plot: "Axes") -> Description:
        extent = (0.5, crops + 0.5, models + 0.5, 0.5)
        picture = plot.imshow(error_percent, cmap="cividis", aspect="auto", interpolation="nearest", extent=extent)
        marked = [(row.crops, row.models) for row in rows if row.models in (1, models) and row.crops <= crops]
        plot.plot(*zip(*marked, strict=True), "o", color="#fefefe", markeredgecolor="#000000", clip_on=False)
        plot.set_yticks(range(1, models + 1))
        plot.set(xlabel="first n crops", ylabel="first n models")
        plot.figure.colorbar(picture, ax=plot, label="top-5 error, percent")
        best = np.unravel_index(int(error_percent.argmin()), error_percent.shape)
        return Description(
            f"Top-5 error of the first 1 to {models} models and 1 to {crops} crops, from "
            f"{error_percent[0, 0]:.2f}% at 1×1 to {error_percent[-1, -1]:.2f}% at {models}×{crops}; the lowest "
            f"is {error_percent.min():.2f}% at {best[0] + 1}×{best[1] + 1}. The rows of Table 3 are marked.",
            [
                (float(crop + 1), float(model + 1), f"{model + 1}×{crop + 1}: {error:.2f}%")
                for (model, crop), error in np.ndenumerate(error_percent)
            ],
        )

    title = "Top-5 error for every number of models and crops; circles mark the rows of Table 3"
    return Plot("surface", title, "surface", draw, 1.3 + 0.28 * models)


def sizes_plot(sizes: Sequence[SizeSummary], greedy: GreedySelection | None, crops: int) -> Plot:
    """The error of the ensembles of each size (mean, best and worst), and that of greedy selection.

    Args:
        sizes: A summary of the ensembles of each number of members, all with one scheme.
        greedy: Greedy selection from the same members, with its cross-validated errors; None to leave it out.
        crops: The number of crops of the scheme.
    """

    def draw(plot: "Axes") -> Description:
        members, mean = [each.size for each in sizes], np.array([each.mean_error_percent for each in sizes])
        best, worst = ([each.best_error_percent for each in sizes], [each.worst_error_percent for each in sizes])
        reach = np.maximum([mean - best, worst - mean], 0)
        plot.errorbar(
            members, mean, yerr=reach, fmt="o-", color=COLOURS[0], capsize=3, label="mean, best to worst"
        )
        points = [
            (
                float(each.size),
                each.mean_error_percent,
                f"{in_words(each.size, 'model')}: mean of {each.subsets} "
                f"ensembles {each.mean_error_percent:.2f}%, best {each.best_error_percent:.2f}%, worst "
                f"{each.worst_error_percent:.2f}%",
            )
            for each in sizes
        ]
        if greedy is not None:
            errors = greedy.cross_validated_error_percent
            plot.plot(members, errors, "s--", color=COLOURS[1], fillstyle="none", label="greedy, cross-validated")
            points += [(float(n), error, f"greedy, {n}: {error:.2f}%") for n, error in enumerate(errors, 1)]
        plot.set_xticks(members)
        _from_zero(plot, "y")
        plot.set(xlabel=f"models, {in_words(crops, 'crop')} each", ylabel="top-5 error, percent")
        _finish(plot, grid="y")
        listed = "; ".join(f"{each.size}: {each.mean_error_percent:.2f}%" for each in sizes)
        return Description(f"Mean top-5 error of all ensembles, by number of members: {listed}.", points)

    return Plot("sizes", "Top-5 error of all ensembles, by number of models", "sizes", draw)


def members_plot(found: Analyses) -> Plot:
    """The error of each member alone, and of the ensemble without it, beside that of the whole ensemble."""
    names, crops = found.decisions.members, found.decisions.crops[-1]
    rows = table3(found.decisions, [Configuration(1, crops, name) for name in names])
    [*_, whole] = table3(found.decisions)
    ensembles = found.ensembles.get((TOP_5, crops))

    def draw(plot: "Axes") -> Description:
        heights, errors = np.arange(len(names)), [row.top5_error for row in rows]
        plot.errorbar(
            errors, heights, xerr=_reach(rows), fmt="o", color=COLOURS[0], capsize=3, label="member alone"
        )
        points = [
            (row.top5_error, float(height), f"{name} alone, {_numbers(row)}")
            for height, (name, row) in enumerate(zip(names, rows, strict=True))
        ]
        if ensembles and ensembles.leave_one_out:
            without = [100 * each.other_wrong / each.images for each in ensembles.leave_one_out]
            plot.plot(without, heights, "s", color=COLOURS[1], fillstyle="none", label="ensemble without it")
            listed = zip(names, without, strict=True)
            points += [(x, float(y), f"without {name}: {x:.2f}%") for y, (name, x) in enumerate(listed)]
        plot.axvline(whole.top5_error, color=_QUIET, linestyle=":", label="whole ensemble")
        plot.set_yticks(heights, _short(names))
        plot.set(xlabel=f"top-5 error with {in_words(crops, 'crop')}, percent, with its 95% interval")
        _from_zero(plot, "x")
        plot.set_ylim(len(names) - 0.5, -0.5)
        _finish(plot, grid="x")
        return Description(f"Top-5 errors of the members: {'; '.join(point[2] for point in points)}.", points)

    title = "Top-5 error of each member alone, and of the ensemble without it"
    return Plot(
        "members", title, "leave_one_out" if ensembles else "one_model", draw, 1.1 + _ROW_INCHES * len(names)
    )


def calibration_plot(curves: Mapping[str, Reliability]) -> Plot:
    """Accuracy against confidence, for at most three curves. Below the diagonal, a row is overconfident."""

    def draw(plot: "Axes") -> Description:
        plot.plot([0, 1], [0, 1], color=_QUIET, linestyle=":", label="calibrated")
        points = []
        for (label, curve), colour, marker in zip(curves.items(), COLOURS, MARKERS, strict=False):
            filled = [
                (each.mean_confidence, each.accuracy, f"{label}: {_of_bin(each)}")
                for each in curve.bins
                if each.mean_confidence is not None and each.accuracy is not None
            ]
            plot.plot(*list(zip(*filled, strict=True))[:2], f"{marker}-", color=colour, markersize=4, label=label)
            points += filled
        plot.set(xlim=(0, 1), ylim=(0, 1))
        plot.set(xlabel="mean confidence of the bin", ylabel="top-1 accuracy of the bin")
        plot.set_box_aspect(1)
        _finish(plot, grid="both")
        listed = "; ".join(f"{label} {each.expected_calibration_error:.3f}" for label, each in curves.items())
        return Description(f"Accuracy against confidence, by bin. Expected calibration errors: {listed}.", points)

    return Plot("reliability", "Accuracy against confidence (reliability diagram)", "reliability", draw, 4.4)


def classes_plot(classes: ClassAnalysis, names: ClassNames = None) -> Plot:
    """The top-5 error of each class in two rows: below the diagonal the last row has fewer errors."""

    def draw(plot: "Axes") -> Description:
        errors = [(each.first_error_percent, each.last_error_percent) for each in classes.errors[TOP_5]]
        pairs, inverse, counts = np.unique(np.round(errors, 4), axis=0, return_inverse=True, return_counts=True)
        first = dict(zip(inverse.tolist()[::-1], classes.errors[TOP_5][::-1], strict=True))
        highest = max(1.0, float(pairs.max()) * 1.05)
        plot.plot([0, highest], [0, highest], color=_QUIET, linestyle=":")
        sizes = 16 + 4 * np.minimum(counts, 60)
        plot.scatter(pairs[:, 0], pairs[:, 1], s=sizes, color=COLOURS[0], alpha=0.6, linewidths=0)
        plot.set(xlim=(-0.03 * highest, highest), ylim=(-0.03 * highest, highest))
        plot.set(xlabel=f"top-5 error with {classes.first}, percent", ylabel=f"with {classes.last}, percent")
        plot.set_box_aspect(1)
        _finish(plot, grid="both")
        points = []
        for at, ((x, y), count) in enumerate(zip(pairs.tolist(), counts.tolist(), strict=True)):
            index = first[at].class_index
            name = f"class {index}" if names is None else names[index]
            more = f" and {count - 1} more" if count > 1 else ""
            points.append((x, y, f"{name}{more}: {x:.1f}% with {classes.first}, {y:.1f}% with {classes.last}"))
        better, worse = (int((np.sign(pairs[:, 1] - pairs[:, 0]) == sign) @ counts) for sign in (-1, 1))
        return Description(
            f"Top-5 error of each of {len(errors)} classes with {classes.first} and with {classes.last}: it falls "
            f"in {better} classes, rises in {worse}, and stays the same in {len(errors) - better - worse}.",
            points,
        )

    title = f"Top-5 error of each class, {classes.last} against {classes.first}"
    return Plot("classes", title, f"classes_top{TOP_5}", draw, 4.2)


def _from_zero(plot: "Axes", axis: Literal["x", "y"]) -> None:
    """Begin an axis of errors at zero, where marks are not cut in half."""
    plot.set(**{f"{axis}lim": (0, None)})
    for mark in plot.lines:
        mark.set_clip_on(mark.get_marker() == "None")


def _finish(plot: "Axes", grid: str) -> None:
    """Draw a grid behind the marks, and a legend above the axes if there is more than one series."""
    plot.set_axisbelow(True)
    plot.grid(axis=grid)  # type: ignore[arg-type]  # the stub wants a literal
    labels = plot.get_legend_handles_labels()[1]
    if len(labels) > 1:
        columns = 1 if max(map(len, labels)) > 40 else 3 if sum(map(len, labels)) < 40 else 2
        style: dict[str, Any] = {"fontsize": 9, "columnspacing": 1.2, "handletextpad": 0.5, "borderaxespad": 0.2}
        plot.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, **style)


def _numbers(row: Row) -> str:
    return f"{row}: {row.top5_error:.2f}% (95% interval {row.top5_low:.1f} to {row.top5_high:.1f}%)"


def _of_bin(each: ReliabilityBin) -> str:
    numbers = f"confidence {each.mean_confidence:.3f}, accuracy {each.accuracy:.3f}"
    return f"{in_words(each.images, 'image')}, {numbers}"


def _short(names: Sequence[str]) -> list[str]:
    return [name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…" for name in names]


def _reach(rows: Sequence[Row]) -> NDArray[np.float64]:
    """The lengths of the error bars: float64 [2, rows], below and above the error."""
    arms = [(row.top5_error - row.top5_low, row.top5_high - row.top5_error) for row in rows]
    reach: NDArray[np.float64] = np.maximum(np.transpose(arms), 0)
    return reach
