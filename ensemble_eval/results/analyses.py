"""Everything that a report says of a run, from its stored predictions: what cannot be had is said in words."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ensemble_eval.errors import UnavailableError
from ensemble_eval.results.ensembles import (
    EnsembleErrors,
    MemberErrors,
    ScorePass,
    ensemble_errors,
    member_errors,
    read_scores,
    require_scores,
    require_subsets,
)
from ensemble_eval.results.reading import StoredRun
from ensemble_eval.scoring.calibration import Reliability, TemperatureFit, fit_temperature, reliability
from ensemble_eval.scoring.classes import (
    ClassErrors,
    ConfusedPair,
    Moved,
    confused_pairs,
    errors_by_class,
    moved_images,
)
from ensemble_eval.scoring.paired import (
    MARGIN_POINTS,
    PairedDifference,
    all_pairs,
    paired_differences,
    readjusted,
    require_margin,
    require_packages,
)
from ensemble_eval.scoring.table3 import TOP_1, TOP_5, Configuration, Decisions

ERRORS = (TOP_5, TOP_1)


@dataclass(frozen=True)
class RowComparisons:
    """Rows of Table 3 against each other, in one error; positions are those of `Analyses.configurations`.

    Attributes:
        against_base: every row against the first, adjusted among each other.
        between: every row against every later one, adjusted among all of these.
    """

    against_base: tuple[PairedDifference, ...]
    between: tuple[PairedDifference, ...]


@dataclass(frozen=True)
class ClassAnalysis:
    """Per class and per image: the last row of Table 3 against its first.

    Attributes:
        first, last: the two rows.
        errors: by k, errors of each class, classes ascending.
        moved: by k, the images that the last row fixes and breaks.
        confused: of the last row, every confused pair; None where best classes are not stored.
    """

    first: Configuration
    last: Configuration
    errors: Mapping[int, tuple[ClassErrors, ...]]
    moved: Mapping[int, Moved]
    confused: tuple[ConfusedPair, ...] | None


@dataclass(frozen=True, eq=False)
class Analyses:
    """What the stored predictions of a run allow to say.

    Where a field goes by k, that is 5 and 1, of the top-k error; 1 is not there where a run does not know it.

    Attributes:
        decisions: wrong or right, for every image and row.
        missing: images of the data set that are neither evaluated nor unreadable; above 0, all is partial.
        counted: what the errors are counted over, in one phrase each where that is not the usual.
        margin_points: within which two errors count as equal.
        configurations: the rows of Table 3.
        comparisons: by k, rows against each other.
        members: by k and scheme.
        ensembles: by k and scheme; empty where no scores are stored, or of more than 12 members.
        reliabilities: of each row of Table 3, as it is stored; empty where a run knows decisions only.
        temperatures: of the first and the last row of Table 3; empty where no scores are stored.
        classes: per class and per image.
        unavailable: by what is not there, a sentence that says why, and which argument of `evaluate` would have
            kept it.
    """

    decisions: Decisions
    missing: int
    counted: tuple[str, ...]
    margin_points: float
    configurations: tuple[Configuration, ...]
    comparisons: Mapping[int, RowComparisons]
    members: Mapping[tuple[int, int], MemberErrors]
    ensembles: Mapping[tuple[int, int], EnsembleErrors]
    reliabilities: Mapping[Configuration, Reliability]
    temperatures: Mapping[Configuration, TemperatureFit]
    classes: ClassAnalysis
    unavailable: Mapping[str, str]

    @property
    def is_partial(self) -> bool:
        """Whether images are missing."""
        return self.missing > 0


def analyse(
    results: StoredRun, *, partial: bool = False, margin_points: float = MARGIN_POINTS, seed: int = 0
) -> Analyses:
    """Compute everything that a report says, reading the stored scores once.

    What cannot be had of this run is named in `unavailable`. Asked for by itself, by the functions below, it
    raises an error with the same sentence.

    Args:
        results: of a run.
        partial: images may be missing.
        margin_points: within which two errors count as equal, in percentage points.
        seed: of the bootstrap, and of the split into folds.

    Raises:
        InputError: images are missing, there are none, or a package of the extra `[report]` is not installed.
        EnsembleEvalError: rows are missing, or the run has rewritten a part meanwhile.

    Example:
        `analyse(ee.read_results("results")).comparisons[5].against_base[-1].verdict_text`
    """
    require_margin(margin_points)
    require_packages()
    results.require_table(partial=partial)
    decisions = results.decisions()
    unavailable: dict[str, str] = {}
    with_subsets = _is_available("ensembles", unavailable, lambda: require_subsets(results))
    with_temperatures = _is_available("temperatures", unavailable, lambda: require_scores(results, "temperatures"))
    with_answers = _is_available("calibration", unavailable, lambda: require_answers(decisions))
    known = [
        k for k in ERRORS if _is_available(f"top-{k}", unavailable, functools.partial(decisions.require_known, k))
    ]
    ends = (decisions.configurations[0], decisions.configurations[-1])
    found = (
        read_scores(results, decisions, ends if with_temperatures else (), with_subsets=with_subsets)
        if with_subsets or with_temperatures
        else None
    )
    return Analyses(
        decisions,
        results.missing,
        results.key.counted(None if results.missing else len(np.unique(decisions.labels))),
        margin_points,
        decisions.configurations,
        {k: compare_rows(decisions, k, margin_points=margin_points, seed=seed) for k in known},
        {(k, crops): member_errors(decisions, k, crops) for k in known for crops in decisions.crops},
        {
            (k, crops): ensemble_errors(found, decisions, k, crops, margin_points=margin_points, seed=seed)
            for k in known
            for crops in decisions.crops
            if found and with_subsets
        },
        reliabilities(decisions) if with_answers else {},
        temperatures(found, decisions, seed=seed) if found else {},
        class_analysis(decisions),
        unavailable,
    )


def compare_rows(
    decisions: Decisions, k: int, *, margin_points: float = MARGIN_POINTS, seed: int = 0
) -> RowComparisons:
    """The rows of Table 3 against each other, image by image.

    Args:
        decisions: of a run.
        k: 5 or 1.
        margin_points: within which two errors count as equal, in percentage points.
        seed: of the bootstrap.

    Raises:
        UnavailableError: the run stopped before it knew these decisions.
    """
    wrong = decisions.wrong_by_configuration(k)
    between = paired_differences(wrong, all_pairs(len(wrong)), margin_points=margin_points, seed=seed)
    return RowComparisons(tuple(readjusted([each for each in between if each.base == 0])), tuple(between))


def require_answers(decisions: Decisions) -> None:
    """Refuse a run that knows decisions and neither best classes nor how sure it was of them.

    Raises:
        UnavailableError: it says how to evaluate instead.
    """
    if decisions.answered is None:
        raise UnavailableError(
            "calibration and confused classes need the best class and its score, and a run that stops when "
            "decided has neither; evaluate without `until_decided=True`"
        )


def reliabilities(decisions: Decisions) -> dict[Configuration, Reliability]:
    """How far confidence is from accuracy, for each row of Table 3.

    Raises:
        UnavailableError: the run knows decisions only.
    """
    require_answers(decisions)
    assert decisions.confidence is not None
    return {
        each: reliability(decisions.confidence[place], ~decisions.wrong[TOP_1][place])
        for each in decisions.configurations
        for place in [decisions.place(each)]
    }


def temperatures(scores: ScorePass, decisions: Decisions, *, seed: int = 0) -> dict[Configuration, TemperatureFit]:
    """The temperature of each configuration whose score vectors a pass has kept.

    Args:
        scores: of a pass that kept configurations: `read_scores(results, decisions, configurations)`.
        decisions: of the same run.
        seed: of the split into folds.
    """
    return {
        each: fit_temperature(vectors, decisions.labels, ~decisions.wrong[TOP_1][decisions.place(each)], seed=seed)
        for each, vectors in scores.scores.items()
    }


def class_analysis(decisions: Decisions) -> ClassAnalysis:
    """Per class and per image, the last row of Table 3 against its first.

    An image with several labels is one of each of its classes.
    """
    first, last = decisions.configurations[0], decisions.configurations[-1]
    images, labels = decisions.each_label
    wrong = {
        k: (decisions.wrong[k][decisions.place(first)], decisions.wrong[k][decisions.place(last)])
        for k in ERRORS
        if all(decisions.is_known[k][decisions.place(each)] for each in (first, last))
    }
    return ClassAnalysis(
        first,
        last,
        {
            k: tuple(errors_by_class(labels, of_first[images], of_last[images]))
            for k, (of_first, of_last) in wrong.items()
        },
        {k: moved_images(decisions.images, *both) for k, both in wrong.items()},
        _confused(decisions, last),
    )


def _confused(decisions: Decisions, row: Configuration) -> tuple[ConfusedPair, ...] | None:
    if decisions.answered is None:
        return None
    (images, labels), place = decisions.each_label, decisions.place(row)
    return tuple(confused_pairs(labels, decisions.answered[place][images], decisions.wrong[TOP_1][place][images]))


def _is_available(name: str, unavailable: dict[str, str], require: Callable[[], None]) -> bool:
    """Whether something can be had; if not, what is said of it is kept."""
    try:
        require()
    except UnavailableError as error:
        unavailable[name] = str(error)
        return False
    return True
