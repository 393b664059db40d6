"""Several runs over the same images: whether their errors differ, image by image, from those of the first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.errors import InputError
from ensemble_eval.results.compare import require_same_images, require_same_labels
from ensemble_eval.results.decisions import TOP_1, TOP_5, Configuration, Decisions, read_decisions
from ensemble_eval.results.reading import StoredRun
from ensemble_eval.scoring.paired import (
    MARGIN_POINTS,
    PairedDifference,
    paired_differences,
    require_margin,
    require_packages,
)


@dataclass(frozen=True)
class RunDifference:
    """One run against the first, in one configuration.

    Attributes:
        run: position of the other run among those that were compared; the first is 0.
        base: the first run's configuration.
        other: the other run's: also one model, or also all, with as many crops.
        paired: how their errors differ; its own positions are those of the two runs.
    """

    run: int
    base: Configuration
    other: Configuration
    paired: PairedDifference


@dataclass(frozen=True)
class RunsComparison:
    """Several runs against the first of them.

    Attributes:
        images: how many, the same in all runs.
        one_model_members: for each run, the member that stands for one model.
        differences: by k, 5 and where all runs know it 1: of the top-k error, runs ascending, then one model and
            all models, then crops ascending. All of one k are adjusted among each other.
        left_out_crops: schemes that not all runs have.
    """

    images: int
    one_model_members: tuple[str, ...]
    differences: dict[int, tuple[RunDifference, ...]]
    left_out_crops: tuple[int, ...]


def compare_errors(
    runs: Sequence[StoredRun], *, margin_points: float = MARGIN_POINTS, seed: int = 0
) -> RunsComparison:
    """Compare the rows of Table 3 of several runs with those of the first, image by image.

    The runs may have other members, and other numbers of them: one model is compared with one model, by the
    paper's rule in each run, and all models with all models.

    Args:
        runs: two or more, finished.
        margin_points: within which two errors count as equal, in percentage points.
        seed: of the bootstrap.

    Raises:
        InputError: fewer than two runs, an unfinished one, or other images, labels or classes; it names what only
            one has. Or a package of the extra `[report]` is not installed.

    Example:
        `compare_errors([read_results("a"), read_results("b")]).differences[5][0].paired.verdict_text`
    """
    require_margin(margin_points)
    if len(runs) < 2:
        raise InputError("`runs` has two or more output folders, the first of which the others are compared with")
    for other in runs[1:]:
        require_same_images(runs[0], other)
    require_packages()
    decided = [read_decisions(results, with_answers=False) for results in runs]
    for results, decisions in zip(runs[1:], decided[1:], strict=True):
        require_same_labels(runs[0], decided[0], results, decisions)
    crops = [each for each in runs[0].crops if all(each in results.crops for results in runs)]
    rows = [
        _rows(decisions, crops, with_all=any(len(each.members) > 1 for each in decided)) for decisions in decided
    ]
    known = [k for k in (TOP_5, TOP_1) if all(each.is_known[k].all() for each in decided)]
    return RunsComparison(
        len(runs[0].images),
        tuple(decisions.one_model_member for decisions in decided),
        {k: _differences(k, decided, rows, margin_points, seed) for k in known},
        tuple(sorted({each for results in runs for each in results.crops if each not in crops})),
    )


def _rows(decisions: Decisions, crops: Sequence[int], *, with_all: bool) -> list[Configuration]:
    """One model, and where some run has several, all models, with each of some schemes."""
    models = [(1, decisions.one_model_member)]
    if with_all:
        models.append((len(decisions.members), decisions.names[-1]))
    return [Configuration(count, each, name) for count, name in models for each in crops]


def _differences(
    k: int,
    decided: Sequence[Decisions],
    rows: Sequence[Sequence[Configuration]],
    margin_points: float,
    seed: int,
) -> tuple[RunDifference, ...]:
    wrong: list[NDArray[np.bool_]] = [
        decisions.wrong[k][decisions.place(row)]
        for decisions, of_run in zip(decided, rows, strict=True)
        for row in of_run
    ]
    count = len(rows[0])
    places = [(run, row) for run in range(1, len(decided)) for row in range(count)]
    pairs = [(row, run * count + row) for run, row in places]
    found = paired_differences(np.stack(wrong), pairs, margin_points=margin_points, seed=seed)
    return tuple(
        RunDifference(run, rows[0][row], rows[run][row], replace(difference, base=0, other=run))
        for (run, row), difference in zip(places, found, strict=True)
    )
