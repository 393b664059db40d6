"""The statistics of a report, from the stored predictions of a run; it lists unavailable ones, with the reason."""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ensemble_eval.errors import InputError, UnavailableError
from ensemble_eval.paper.published import Published
from ensemble_eval.results.reading import StoredRun
from ensemble_eval.results.scores import ScorePass, read_scores, require_scores
from ensemble_eval.scoring.calibration import Reliability, TemperatureFit, fit_temperature, reliability
from ensemble_eval.scoring.classes import ClassAnalysis, class_analysis
from ensemble_eval.scoring.clusters import Clusters, cluster_count
from ensemble_eval.scoring.paired import (
    MARGIN_POINTS,
    PairedDifference,
    paired_differences,
    readjusted,
    require_packages,
    validate_margin,
)
from ensemble_eval.scoring.subset_ranks import all_subsets
from ensemble_eval.scoring.subsets import (
    EnsembleErrors,
    MemberErrors,
    RecipeErrors,
    ensemble_errors,
    held_out_choice,
    member_errors,
    recipe_errors,
)
from ensemble_eval.scoring.table3 import TOP_1, TOP_5, Configuration, Decisions


@dataclass(frozen=True)
class RowComparisons:
    """Comparisons of the rows of Table 3, in one error; rows are positions in `Analyses.configurations`.

    Attributes:
        against_base: Every row compared with the first, adjusted among each other.
        between: Every row compared with every later one, adjusted among all of these.
    """

    against_base: tuple[PairedDifference, ...]
    between: tuple[PairedDifference, ...]


@dataclass(frozen=True, eq=False)
class Analyses:
    """The statistics that the stored predictions of a run allow.

    Some mappings are by k, which is 5 or 1, for the top-k error; k = 1 is missing if the run does not know that
    error.

    Attributes:
        decisions: Whether each row has each image wrong.
        missing: The number of images that are neither evaluated nor unreadable. Above 0, all statistics are
            partial.
        published: Published errors for the protocol and the architectures.
        counted: Phrases that state which images and classes the errors cover, if these are not all.
        margin_points: Two errors that differ by less count as equal.
        configurations: The rows of Table 3.
        comparisons: Comparisons of rows, by k.
        members: The errors of single members, by k and scheme.
        recipe: The members that were named as trained by one recipe.
        recipe_errors: Their errors as a sample of the networks of the recipe, by k and scheme.
        ensembles: The errors of all ensembles, by k and scheme; empty without stored scores or with more than 12
            members.
        reliabilities: The calibration of each row of Table 3; empty if the run stores decisions, not scores.
        temperatures: The fitted temperatures of the first and the last row of Table 3; empty without stored
            scores.
        classes: Errors by class, and the images that the last row fixes and breaks.
        unavailable: The names of unavailable analyses, each with a sentence that gives the reason and the argument
            of `evaluate` that would have stored what they need.
    """

    decisions: Decisions
    missing: int
    published: Published
    counted: tuple[str, ...]
    margin_points: float
    configurations: tuple[Configuration, ...]
    comparisons: Mapping[int, RowComparisons]
    members: Mapping[tuple[int, int], MemberErrors]
    recipe: tuple[str, ...]
    recipe_errors: Mapping[tuple[int, int], RecipeErrors]
    ensembles: Mapping[tuple[int, int], EnsembleErrors]
    reliabilities: Mapping[Configuration, Reliability]
    temperatures: Mapping[Configuration, TemperatureFit]
    classes: ClassAnalysis
    unavailable: Mapping[str, str]

    @property
    def clusters(self) -> int:
        """The number of clusters of images; 0 if images are independent."""
        return cluster_count(self.decisions.clusters)


def analyse(
    results: StoredRun,
    *,
    partial: bool = False,
    margin_points: float = MARGIN_POINTS,
    seed: int = 0,
    clusters: Clusters = None,
    recipe: Sequence[str] = (),
) -> Analyses:
    """Compute all statistics of a report, reading the stored scores once.

    `unavailable` lists what this run cannot provide.

    Args:
        results: The results of a run.
        partial: Accept an unfinished run.
        margin_points: Two errors that differ by less count as equal, in percentage points.
        seed: The seed of the bootstrap, and of the split into folds.
        clusters: The cluster of each image, as `results.reading.read_clusters` returns it.
        recipe: The names of two or more members that one recipe trained; empty for none.

    Raises:
        InputError: Images are missing, there are none, the members of `recipe` are not alike, or a package of the
            extra `[report]` is not installed.
        EnsembleEvalError: Rows are missing, or the run has rewritten a part meanwhile.

    Example:
        `analyse(ee.read_results("results")).comparisons[5].against_base[-1].verdict_text`
    """
    validate_margin(margin_points)
    require_packages()
    results.require_table(partial=partial)
    decisions = replace(results.decisions(), clusters=clusters)
    alike = _alike_members(results, recipe)
    unavailable = _unavailable(results, decisions)
    known = [k for k in (TOP_5, TOP_1) if f"top-{k}" not in unavailable]
    with_subsets = "ensembles" not in unavailable
    ends = () if "temperatures" in unavailable else (decisions.configurations[0], decisions.configurations[-1])
    scores = read_scores(results, decisions, ends, with_subsets=with_subsets) if with_subsets or ends else None
    members = slice(len(decisions.members))
    chosen = decisions.members.index(decisions.one_model_member)
    held_out = held_out_choice(decisions.wrong[TOP_1][members, 0], seed=seed, clusters=clusters)
    cells = [(k, crops, scheme) for k in known for scheme, crops in enumerate(decisions.crops)]
    return Analyses(
        decisions,
        results.missing,
        results.key.published(decisions.one_model_member),
        results.counted(decisions),
        margin_points,
        decisions.configurations,
        {k: _compare_rows(decisions, k, margin_points=margin_points, seed=seed) for k in known},
        {(k, crops): member_errors(decisions.wrong[k][members, at], chosen, held_out) for k, crops, at in cells},
        tuple(recipe),
        {(k, crops): recipe_errors(decisions.wrong[k][alike, at]) for k, crops, at in cells if alike},
        {
            (k, crops): ensemble_errors(scores.ranks[at] >= k, scores.subsets, margin_points, seed, clusters)
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


def _alike_members(results: StoredRun, recipe: Sequence[str]) -> list[int]:
    """The positions of members that one recipe trained."""
    if not recipe:
        return []
    if unknown := [name for name in recipe if name not in results.members]:
        raise InputError(
            f"`recipe` names {unknown[0]!r}, which is not one of the members {', '.join(results.members)}"
        )
    positions = sorted({results.members.index(name) for name in recipe})
    if len(positions) < 2:
        raise InputError("`recipe` names one member; an interval over members needs two or more")
    first, *others = (replace(results.key.members[each], name="", weights="") for each in positions)
    if any(each != first for each in others):
        raise InputError(
            "`recipe` names members with different architectures, inputs or crops; name members of one recipe"
        )
    return positions


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
    pairs = list(itertools.combinations(range(len(wrong)), 2))
    between = paired_differences(wrong, pairs, margin_points=margin_points, seed=seed, clusters=decisions.clusters)
    return RowComparisons(tuple(readjusted([each for each in between if each.base == 0])), tuple(between))


def _reliabilities(decisions: Decisions) -> dict[Configuration, Reliability]:
    if decisions.confidence is None:
        return {}
    return {
        each: reliability(decisions.confidence[decisions.position(each)], ~decisions.outcomes(each, TOP_1))
        for each in decisions.configurations
    }


def _temperatures(scores: ScorePass, decisions: Decisions, seed: int) -> dict[Configuration, TemperatureFit]:
    return {
        each: fit_temperature(
            vectors, decisions.labels, ~decisions.outcomes(each, TOP_1), seed=seed, clusters=decisions.clusters
        )
        for each, vectors in scores.scores.items()
    }
