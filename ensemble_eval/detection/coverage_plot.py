"""Coverage against the number of proposals as a curve."""

from collections.abc import Sequence

from ensemble_eval.detection.coverage import SetCoverage
from ensemble_eval.tables.drawing import PALETTE, Plot, axes, finished

_COLOURS = [PALETTE[f"series-{number}"].light for number in (1, 2, 3)]
_MARKERS = ["o", "s", "^"]


def coverage_plot(rows: Sequence[SetCoverage]) -> Plot:
    """A line for each configuration: objects found at an overlap of one half, by proposals of each image."""
    with axes(3.6) as (figure, plot):
        for place, each in enumerate(rows):
            # Beyond all of its proposals a curve would only go on level.
            reached = [budget for budget in each.found.boxes.tolist() if budget < 1.5 * each.found.boxes_per_image]
            plot.plot(
                reached,
                100 * each.found.at_half[: len(reached)],
                f"{_MARKERS[place % 3]}-",
                color=_COLOURS[place % 3],
                markersize=4,
                label=f"{each.name} ({each.found.boxes_per_image:.0f} an image)",
            )
        plot.set_xscale("log")
        plot.set_ylim(0, 100)
        plot.grid()
        plot.set_axisbelow(True)
        plot.set_xlabel("proposals of each image")
        plot.set_ylabel("coverage at an overlap of 0.5, percent")
        plot.legend(loc="lower right")
        said = "; ".join(
            f"{each.name} {100 * each.found.at_half[-1]:.1f}% with {each.found.boxes_per_image:.0f} an image"
            for each in rows
        )
        alternative = f"Objects that proposals find: {said}."
        return finished(figure, "coverage", "Coverage by number of proposals", alternative, "coverage")
