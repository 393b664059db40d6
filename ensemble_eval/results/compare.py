"""Comparisons of runs over the same images: single decisions and scores of two runs, and errors of several."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.crops.protocols import OWN
from ensemble_eval.datasets.scope import Scope
from ensemble_eval.errors import InputError, first_names
from ensemble_eval.evaluation.key import columns_of
from ensemble_eval.results.reading import StoredRun
from ensemble_eval.results.row_tables import DETECTABLE_NOTE, DIFFERENCE_COLUMNS, tests_note
from ensemble_eval.scoring.clusters import Clusters, cluster_count
from ensemble_eval.scoring.paired import (
    MARGIN_POINTS,
    PairedDifference,
    paired_differences,
    require_packages,
    validate_margin,
)
from ensemble_eval.scoring.table3 import TOP_1, TOP_5, Configuration, Decisions
from ensemble_eval.tables.table import Table, filled_from, table_of

# The size of the scores of one run that are in memory at once.
_SCORE_BYTES = 2 << 30


@dataclass(frozen=True)
class Comparison:
    """The differences of two runs, for one member and scheme.

    Attributes:
        member: The name of the member, or "ensemble".
        crops: The scheme.
        images: The number of images, the same in both runs.
        top5_differs: The number of images whose label is among the five best classes in one run only; None if a
            run does not know it for every image.
        top1_differs: The number of images whose label is the best class in one run only; None as above.
        rank_differs: The number of images with different label ranks; None if a run does not know ranks.
        largest_score_difference: The largest difference of two scores of one class; None if a run stored no
            scores.
    """

    member: str
    crops: int
    images: int
    top5_differs: int | None
    top1_differs: int | None
    rank_differs: int | None
    largest_score_difference: float | None


def compare(one: StoredRun, other: StoredRun) -> list[Comparison]:
    """Compare two runs, image by image, for each member and scheme in their order.

    The runs may differ in precision, backend, device, weights, and in whether scores are stored.

    Raises:
        InputError: A run is unfinished or has no images, or the runs differ in images, labels, classes, members or
            schemes; the error names what only one run has.

    Example:
        `compare(read_results("float32"), read_results("bfloat16"))`
    """
    require_same_images(one, other)
    require_same_rows(one, other)
    ours, theirs = one.decisions(with_answers=False), other.decisions(with_answers=False)
    require_same_labels(one, ours, other, theirs)
    with_scores = all("scores" in columns_of(results.key) for results in (one, other))
    distances = _largest_score_differences(one, other) if with_scores else None
    return [
        Comparison(
            ours.names[cell[0]],
            ours.crops[cell[1]],
            len(ours.images),
            _differing_decisions(ours, theirs, TOP_5, cell),
            _differing_decisions(ours, theirs, TOP_1, cell),
            None if ours.ranks is None or theirs.ranks is None else _count(ours.ranks[cell] != theirs.ranks[cell]),
            None if distances is None else float(distances[cell]),
        )
        for cell in np.ndindex(len(ours.names), len(ours.crops))
    ]


def _differing_decisions(ours: Decisions, theirs: Decisions, k: int, cell: tuple[int, ...]) -> int | None:
    """The images that only one of two runs gets wrong, for one member and scheme; None if one does not know."""
    is_known = ours.is_known[k][cell] and theirs.is_known[k][cell]
    return _count(ours.wrong[k][cell] != theirs.wrong[k][cell]) if is_known else None


def _count(differs: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(differs))


def decisions_table(rows: Sequence[Comparison], title: str) -> Table:
    """A table of the decisions, label ranks and scores that differ between two runs."""
    return table_of(
        "decisions",
        title,
        rows,
        [
            ("member", "member", "text", lambda row: row.member),
            ("crops", "crops", "count", lambda row: row.crops),
            ("top5", "top-5 differs", "count", lambda row: row.top5_differs),
            ("top1", "top-1 differs", "count", lambda row: row.top1_differs),
            ("rank", "rank differs", "count", lambda row: row.rank_differs),
            ("scores", "scores differ by", "number", lambda row: row.largest_score_difference),
        ],
    )


def require_same_images(one: StoredRun, other: StoredRun) -> None:
    """Refuse two runs with different images or classes, or that are not finished."""
    for results in (one, other):
        results.require_table()
    _refuse_others("images", one, other, one.images, other.images)
    if one.key.classes != other.key.classes:
        raise InputError(
            f"{one.folder} has {one.key.classes} classes and {other.folder} {other.key.classes}; "
            "compare runs of the same classes"
        )
    ours, theirs = one.key.scope, other.key.scope
    if (ours.several_labels, ours.counted_classes) != (theirs.several_labels, theirs.counted_classes):
        raise InputError(
            f"{one.folder} ranks {_counted(ours)}, and {other.folder} {_counted(theirs)}; compare runs that count "
            "in the same way"
        )


def _counted(scope: Scope) -> str:
    """The labels that make an image right, and the classes among which they are ranked."""
    labels = "the best of several labels" if scope.several_labels else "one label"
    among = "all classes" if scope.counted_classes is None else f"{len(scope.counted_classes)} of the classes"
    return f"{labels} of an image among {among}"


def require_same_rows(one: StoredRun, other: StoredRun) -> None:
    """Refuse two runs that do not have the same members, schemes and protocols; the error names the difference."""
    require_same_protocol(one, other)
    _refuse_others("members", one, other, one.members, other.members)
    _refuse_others("crop schemes", one, other, map(str, one.crops), map(str, other.crops))


def require_same_labels(one: StoredRun, ours: Decisions, other: StoredRun, theirs: Decisions) -> None:
    """Refuse two runs over the same images with different labels; the error names the first of these images."""
    mine, others = (set(zip(*each.each_label, strict=True)) for each in (ours, theirs))
    if images := sorted({ours.images[image] for image, _ in mine ^ others}):
        raise InputError(
            f"{one.folder} and {other.folder} have other labels for {first_names(images)}; "
            "compare runs with the same labels"
        )


def _refuse_others(
    what: str, one: StoredRun, other: StoredRun, ours: Iterable[str], theirs: Iterable[str]
) -> None:
    ours, theirs = list(ours), list(theirs)
    only = [
        f"only {folder} has {first_names([each for each in mine if each not in others])}"
        for folder, mine, others in ((one.folder, ours, set(theirs)), (other.folder, theirs, set(ours)))
        if not others.issuperset(mine)
    ]
    if only:
        raise InputError(f"the runs differ in their {what}: {'; '.join(only)}; compare runs over the same {what}")


def _largest_score_differences(one: StoredRun, other: StoredRun) -> NDArray[np.float64]:
    """The largest difference between two scores of one class, for each member and scheme: [names, schemes].

    The scores of both runs do not fit into memory at once, and their parts hold different images. So the scores of
    one run are kept for as many members and schemes as fit, and those of the other run are read past them.
    """
    differences = np.zeros((len(one.key.row_names), len(one.crops)))
    images, classes = len(one.images), one.key.classes
    at_once = max(1, _SCORE_BYTES // (images * classes * np.dtype(np.float32).itemsize))
    cells = np.indices(differences.shape).reshape(2, -1)
    for start in range(0, differences.size, at_once):
        some = tuple(cells[:, start : start + at_once])
        kept = np.empty((len(some[0]), images, classes), np.float32)
        for block in one.blocks(["scores"]):
            kept[:, block.images] = block.float_matrix("scores")[block.rows[some]]
        for block in other.blocks(["scores"]):
            distances = np.abs(kept[:, block.images] - block.float_matrix("scores")[block.rows[some]])
            differences[some] = np.maximum(differences[some], distances.max(axis=(1, 2)))
        del kept
    return differences


def require_same_protocol(one: StoredRun, other: StoredRun) -> None:
    """Refuse two runs of different multi-crop protocols. `timm` counts as one, whatever the models."""
    ours, theirs = ({OWN if each.name == OWN else each for each in run.key.rule.protocols} for run in (one, other))
    if ours != theirs:
        raise InputError(
            f"{one.folder} has the protocol {one.key.rule.name}, and {other.folder} {other.key.rule.name}; "
            "`across_protocols=True` compares the errors of both"
        )


@dataclass(frozen=True)
class RunDifference:
    """One row of a run compared with the corresponding row of the first run.

    Attributes:
        run: The position of the run; the first is 0.
        base: The row of the first run.
        other: The row of the other run: also one model, or also all models, with as many crops.
        paired: The difference of their errors; its `base` and `other` are the positions of the two runs.
    """

    run: int
    base: Configuration
    other: Configuration
    paired: PairedDifference

    @property
    def models(self) -> str:
        """The number of models in both rows, or in each of them."""
        return _both(self.base.models, self.other.models)

    @property
    def crops(self) -> str:
        """The number of crops in both rows, or in each of them."""
        return _both(self.base.crops, self.other.crops)


def _both(one: int, other: int) -> str:
    return " and ".join(map(str, dict.fromkeys((one, other))))


@dataclass(frozen=True)
class RunsComparison:
    """Several runs compared with the first of them.

    Attributes:
        one_model_members: For each run, the member that stands for one model.
        differences: For each k, which is 5, and 1 if all runs know it: the differences of the top-k error, runs
            ascending, then one model and all models, then crops ascending. They are adjusted among each other.
        left_out_crops: The schemes that not all runs have.
    """

    one_model_members: tuple[str, ...]
    differences: dict[int, tuple[RunDifference, ...]]
    left_out_crops: tuple[int, ...]


def compare_errors(
    runs: Sequence[StoredRun],
    *,
    margin_points: float = MARGIN_POINTS,
    seed: int = 0,
    across_protocols: bool = False,
    clusters: Clusters = None,
) -> RunsComparison:
    """Compare the rows of Table 3 of several runs with those of the first, image by image.

    The runs may have different members, and different numbers of them: one model is compared with one model, by
    the paper's rule in each run, and all models with all models.

    Args:
        runs: Two or more finished runs.
        margin_points: Two errors that differ by less count as equal, in percentage points.
        seed: The seed of the bootstrap.
        across_protocols: Accept runs of different multi-crop protocols. Besides rows with as many crops, those
            with all crops of each run are compared.
        clusters: The cluster of each image; None if images are independent.

    Raises:
        InputError: There are fewer than two runs, one is unfinished, or they differ in images, labels, classes or
            protocols; the error names what only one run has. Or a package of the extra `[report]` is not
            installed.

    Example:
        `compare_errors([read_results("a"), read_results("b")]).differences[5][0].paired.verdict_text`
    """
    validate_margin(margin_points)
    if len(runs) < 2:
        raise InputError("`runs` has two or more output folders, the first of which the others are compared with")
    for other in runs[1:]:
        require_same_images(runs[0], other)
        if not across_protocols:
            require_same_protocol(runs[0], other)
    require_packages()
    decided = [results.decisions(with_answers=False) for results in runs]
    for results, decisions in zip(runs[1:], decided[1:], strict=True):
        require_same_labels(runs[0], decided[0], results, decisions)
    crops = [each for each in runs[0].crops if all(each in results.crops for results in runs)]
    with_all = any(len(each.members) > 1 for each in decided)
    last = {results.crops[-1] for results in runs}
    schemes = [[*crops, results.crops[-1]] if across_protocols and len(last) > 1 else crops for results in runs]
    rows = [_rows(decisions, each, with_all=with_all) for decisions, each in zip(decided, schemes, strict=True)]
    known = [k for k in (TOP_5, TOP_1) if all(each.is_known[k].all() for each in decided)]
    return RunsComparison(
        tuple(decisions.one_model_member for decisions in decided),
        {k: _differences(k, decided, rows, margin_points, seed, clusters) for k in known},
        tuple(sorted({each for results in runs for each in results.crops}.difference(*schemes))),
    )


def run_differences_table(
    k: int, found: Sequence[RunDifference], margin_points: float, clusters: Clusters = None
) -> Table:
    """A table of the differences of several runs from the first, in one error; runs are counted from 1."""
    return table_of(
        f"runs_top{k}",
        f"top-{k} error against run 1, in percentage points:",
        found,
        [
            ("run", "run", "count", lambda each: each.run + 1),
            ("models", "models", "count", lambda each: each.models),
            ("crops", "crops", "count", lambda each: each.crops),
            *filled_from(attrgetter("paired"), DIFFERENCE_COLUMNS),
        ],
        (
            "The 95% intervals of differences are Tango's score intervals, paired by image.",
            tests_note(len(found), margin_points, cluster_count(clusters)),
            DETECTABLE_NOTE,
        ),
    )


def _rows(decisions: Decisions, crops: Sequence[int], *, with_all: bool) -> list[Configuration]:
    """The rows of one model, and if some run has several models also of all models, with some schemes."""
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
    clusters: Clusters,
) -> tuple[RunDifference, ...]:
    """The rows of every run but the first compared with those of the first, adjusted among each other."""
    both = zip(decided, rows, strict=True)
    wrong = np.stack([each.outcomes(row, k) for each, of_run in both for row in of_run])
    count = len(rows[0])
    pairs = [(position % count, position) for position in range(count, len(wrong))]
    found = []
    differences = paired_differences(wrong, pairs, margin_points=margin_points, seed=seed, clusters=clusters)
    for difference in differences:
        run, row = divmod(difference.other, count)
        found.append(RunDifference(run, rows[0][row], rows[run][row], replace(difference, base=0, other=run)))
    return tuple(found)
