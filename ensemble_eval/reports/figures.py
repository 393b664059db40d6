"""The plots of a report, from the analyses of a run."""

from collections.abc import Iterator, Sequence

import numpy as np

from ensemble_eval.paper.published import TABLE_3
from ensemble_eval.reports.plots import (
    ErrorPoint,
    ReliabilityCurve,
    SizeCurve,
    classes_plot,
    cost_plot,
    matrix_plot,
    reliability_plot,
    rows_plot,
    sizes_plot,
    surface_plot,
)
from ensemble_eval.results.analyses import Analyses
from ensemble_eval.results.crop_study import CropStudy
from ensemble_eval.results.row_tables import NOT_COMPARABLE
from ensemble_eval.scoring.calibration import Reliability
from ensemble_eval.scoring.table3 import TOP_5, Configuration, table3
from ensemble_eval.tables.drawing import Plot


def row_plots(found: Analyses, study: CropStudy | None, *, with_paper: bool) -> list[Plot]:
    """The rows of Table 3 with their intervals, and their errors against their cost.

    Args:
        found: of a run.
        study: of the same run, if it kept every rank; then every number of models has a line, and there is
            a heat map.
        with_paper: draw the paper's errors.
    """
    points = error_points(found)
    against_cost = [cost_plot(points)] if study is None else crop_plots(study, found.configurations, points)
    the_paper = f"the paper, {NOT_COMPARABLE}" if found.counted else "the paper"
    return [rows_plot(points, the_paper if with_paper else None), *against_cost]


def crop_plots(study: CropStudy, rows: Sequence[Configuration], points: Sequence[ErrorPoint]) -> list[Plot]:
    """The surface as a heat map, and its lines against cost with the rows of Table 3 marked.

    Args:
        study: of a run.
        rows: of Table 3.
        points: the same rows, to draw.
    """
    frame = study.surface(TOP_5)
    curves = {
        int(str(models)): list(zip(cells["cost"].tolist(), cells["error_percent"].tolist(), strict=True))
        for models, cells in frame.groupby("models")
    }
    surface = frame["error_percent"].to_numpy(np.float64).reshape(len(study.members), study.crops)
    return [cost_plot(points, curves), surface_plot(surface, [(each.models, each.crops) for each in rows])]


def error_points(found: Analyses) -> list[ErrorPoint]:
    """The rows of Table 3, to draw."""
    return [
        ErrorPoint(
            f"{row.models}×{row.crops}",
            row.cost,
            row.top5_error,
            row.top5_low,
            row.top5_high,
            TABLE_3.get((row.models, row.crops)),
        )
        for row in table3(found.decisions)
    ]


def member_plots(found: Analyses) -> list[Plot]:
    """What each further member brings, and how the members' errors correlate, with the largest scheme."""
    crops = found.decisions.crops[-1]
    plots = []
    if (ensembles := found.ensembles.get((TOP_5, crops))) and len(ensembles.sizes) > 1:
        curve = SizeCurve(
            [size.size for size in ensembles.sizes],
            [size.mean_error_percent for size in ensembles.sizes],
            [size.best_error_percent for size in ensembles.sizes],
            [size.worst_error_percent for size in ensembles.sizes],
            None if ensembles.greedy is None else ensembles.greedy.cross_validated_error_percent,
        )
        plots.append(sizes_plot(curve, crops))
    if len(found.decisions.members) > 1:
        plots.append(_diversity_plot(found, crops))
    return plots


def class_plots(found: Analyses) -> list[Plot]:
    """The error of each class in the first and in the last row."""
    classes = found.classes
    if TOP_5 not in classes.errors or classes.first == classes.last:
        return []
    errors = classes.errors[TOP_5]
    return [
        classes_plot(
            [each.first_error_percent for each in errors],
            [each.last_error_percent for each in errors],
            str(classes.first),
            str(classes.last),
            f"classes_top{TOP_5}",
        )
    ]


def calibration_plots(found: Analyses) -> list[Plot]:
    """The reliability diagram of the first and the last row, and of the last after its temperature."""
    curves = dict(_reliabilities(found))
    if not curves:
        return []
    errors = {label: each.expected_calibration_error for label, each in curves.items()}
    return [reliability_plot([_curve(label, each) for label, each in curves.items()], errors)]


def _reliabilities(found: Analyses) -> Iterator[tuple[str, Reliability]]:
    stored = found.reliabilities
    if not stored:
        return
    first, *_, last = (*stored, *stored)
    yield str(first), stored[first]
    if last != first:
        yield str(last), stored[last]
    fit = found.temperatures.get(last)
    if fit is not None and fit.cross_fitted is not None:
        yield f"{last}, T = {fit.temperature:.2f}", fit.cross_fitted


def _curve(label: str, reliability: Reliability) -> ReliabilityCurve:
    filled = [
        (each.mean_confidence, each.accuracy)
        for each in reliability.bins
        if each.mean_confidence is not None and each.accuracy is not None
    ]
    return ReliabilityCurve(label, [pair[0] for pair in filled], [pair[1] for pair in filled])


def _diversity_plot(found: Analyses, crops: int) -> Plot:
    names, pairs = found.decisions.members, found.members[TOP_5, crops].diversity
    matrix = np.full((len(names), len(names)), np.nan)
    for pair in pairs:
        if pair.error_correlation is not None:
            matrix[pair.one, pair.other] = matrix[pair.other, pair.one] = pair.error_correlation
    known = matrix[~np.isnan(matrix)]
    said = f"from {known.min():.2f} to {known.max():.2f}" if len(known) else "not known: a member has no errors"
    return matrix_plot(
        names,
        matrix,
        name="diversity",
        title=f"Correlation of the members' top-5 errors, {crops} crops",
        alternative=f"Correlations of the top-5 errors of each two members, {said}.",
        table="diversity",
    )
