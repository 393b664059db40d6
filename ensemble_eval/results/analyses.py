"""The statistics of a report, from the stored predictions of a run; it lists unavailable ones, with the reason."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ensemble_eval.errors import UnavailableError
from ensemble_eval.results.reading import StoredRun
from ensemble_eval.results.scores import ScorePass, read_scores, require_scores
from ensemble_eval.scoring.calibration import Reliability, TemperatureFit, fit_temperature, reliability
from ensemble_eval.scoring.classes import ClassAnalysis, class_analysis
from ensemble_eval.scoring.paired import (
    MARGIN_POINTS,
    PairedDifference,
    all_pairs,
    paired_differences,
    readjusted,
    require_margin,
    require_packages,
)
from ensemble_eval.scoring.subset_ranks import all_subsets
from ensemble_eval.scoring.subsets import EnsembleErrors, MemberErrors, ensemble_errors, member_errors
from ensemble_eval.scoring.table3 import TOP_1, TOP_5, Configuration, Decisions


@dataclass(frozen=True)
class RowComparisons:
    """Rows of Table 3 against each other, in one error; positions are those of `Analyses.configurations`.

    Attributes:
        against_base: every row against the first, adjusted among each other.
        between: every row against every later one, adjusted among all of these.
    """

    against_base: tuple[PairedDifference, ...]
    between: tuple[PairedDifference, ...]


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

    `unavailable` lists what this run cannot provide.

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
    unavailable = _unavailable(results, decisions)
    known = [k for k in (TOP_5, TOP_1) if f"top-{k}" not in unavailable]
    with_subsets = "ensembles" not in unavailable
    ends = () if "temperatures" in unavailable else (decisions.configurations[0], decisions.configurations[-1])
    scores = read_scores(results, decisions, ends, with_subsets=with_subsets) if with_subsets or ends else None
    members = slice(len(decisions.members))
    chosen = decisions.members.index(decisions.one_model_member)
    cells = [(k, crops, scheme) for k in known for scheme, crops in enumerate(decisions.crops)]
    return Analyses(
        decisions,
        results.missing,
        results.key.counted(None if results.missing else len(np.unique(decisions.labels))),
        margin_points,
        decisions.configurations,
        {k: _compare_rows(decisions, k, margin_points=margin_points, seed=seed) for k in known},
        {(k, crops): member_errors(decisions.wrong[k][members, at], chosen) for k, crops, at in cells},
        {
            (k, crops): ensemble_errors(scores.ranks[at] >= k, scores.subsets, margin_points, seed)
            for k, crops, at in cells
            if scores and with_subsets
        },
        _reliabilities(decisions),
        _temperatures(scores, decisions, seed) if scores else {},
        class_analysis(decisions),
        unavailable,
    )


def _unavailable(results: StoredRun, decisions: Decisions) -> dict[str, str]:
    """The analyses that the run cannot provide, each with the reason."""
    requirements: dict[str, Callable[[], object]] = {
        "ensembles": functools.partial(_require_subsets, results),
        "temperatures": functools.partial(require_scores, results, "temperatures"),
        "calibration": functools.partial(_require_answers, decisions),
        **{f"top-{k}": functools.partial(decisions.require_known, k) for k in (TOP_5, TOP_1)},
    }
    unavailable = {}
    for name, require in requirements.items():
        try:
            require()
        except UnavailableError as error:
            unavailable[name] = str(error)
    return unavailable


def _require_subsets(results: StoredRun) -> None:
    all_subsets(len(results.members))
    require_scores(results, "ensembles of some of the members")


def _require_answers(decisions: Decisions) -> None:
    if decisions.answered is None:
        raise UnavailableError(
            "calibration and confused classes need the best class and its score, and a run that stops when "
            "decided has neither; evaluate without `until_decided=True`"
        )


def _compare_rows(decisions: Decisions, k: int, *, margin_points: float, seed: int) -> RowComparisons:
    wrong = decisions.wrong_by_configuration(k)
    between = paired_differences(wrong, all_pairs(len(wrong)), margin_points=margin_points, seed=seed)
    return RowComparisons(tuple(readjusted([each for each in between if each.base == 0])), tuple(between))


def _reliabilities(decisions: Decisions) -> dict[Configuration, Reliability]:
    if decisions.confidence is None:
        return {}
    places = {each: decisions.place(each) for each in decisions.configurations}
    is_right = ~decisions.wrong[TOP_1]
    return {each: reliability(decisions.confidence[at], is_right[at]) for each, at in places.items()}


def _temperatures(scores: ScorePass, decisions: Decisions, seed: int) -> dict[Configuration, TemperatureFit]:
    return {
        each: fit_temperature(vectors, decisions.labels, ~decisions.wrong[TOP_1][decisions.place(each)], seed=seed)
        for each, vectors in scores.scores.items()
    }
