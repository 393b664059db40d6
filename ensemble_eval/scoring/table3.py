"""Table 3: the decisions about every image, and the rows computed from them.

A decision is the outcome for one image: whether its label is among the k best classes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.errors import EnsembleEvalError, UnavailableError
from ensemble_eval.scoring.clusters import Clusters, design_effects, error_intervals_percent
from ensemble_eval.scoring.intervals import score_interval
from ensemble_eval.tables.table import FilledColumn, Table, table_of

TOP_5, TOP_1 = 5, 1
COLUMNS: tuple[FilledColumn["Row"], ...] = (
    ("models", "models", "count", lambda row: row.models),
    ("crops", "crops", "count", lambda row: row.crops),
    ("cost", "cost", "count", lambda row: row.cost),
    ("top5_error", "top-5 error", "percent", lambda row: row.top5_error),
    ("compared_to_base", "vs. base", "points", lambda row: row.compared_to_base),
    ("top1_error", "top-1 error", "percent", lambda row: row.top1_error),
    ("top5_wrong", "top-5 wrong", "count", lambda row: row.top5_wrong),
    ("top1_wrong", "top-1 wrong", "count", lambda row: row.top1_wrong),
    ("images", "images", "count", lambda row: row.images),
    ("top5", "95% interval", "percent interval", lambda row: (row.top5_low, row.top5_high)),
)
"""The columns of `table3.csv`."""
SHOWN = ("models", "crops", "cost", "top5_error", "top5", "compared_to_base", "top1_error")
"""The columns of Table 3 on a terminal, in their order."""


@dataclass(frozen=True)
class Configuration:
    """What a row of Table 3 evaluates: a number of models with a number of crops.

    Attributes:
        models: The number of models.
        crops: The number of crops of the scheme.
        name: The member that stands for one model, or "ensemble".
    """

    models: int
    crops: int
    name: str

    def __str__(self) -> str:
        """Models × crops, as the paper names a row."""
        return f"{self.models}×{self.crops}"


@dataclass(frozen=True, eq=False)
class Decisions:
    """The decisions of a run: which images each member and the ensemble get wrong, with each scheme.

    Attributes:
        images: Ids, sorted.
        labels: int32 [images].
        members: Names, in the order of the ensemble.
        names: The members and, if there are several, "ensemble".
        crops: The schemes, ascending.
        wrong: For each k (5 or 1), bool [names, schemes, images], whether the label is not among the k best
            classes.
        is_known: For each k, bool [names, schemes], whether the run stores these decisions for every image; if
            not, the values in `wrong` are meaningless.
        answered: int32 [names, schemes, images], the best class; None if it was not stored or not read.
        confidence: float32 [names, schemes, images], the mean softmax of the best class; None as above.
        ranks: int32 [names, schemes, images], the label rank; None for a run with early exit.
        several_labels: All labels of each image, any of which counts as right; None if each image has one label.
        clusters: The cluster of each image; None if images are independent.
    """

    images: tuple[str, ...]
    labels: NDArray[np.int32]
    members: tuple[str, ...]
    names: tuple[str, ...]
    crops: tuple[int, ...]
    wrong: Mapping[int, NDArray[np.bool_]]
    is_known: Mapping[int, NDArray[np.bool_]]
    answered: NDArray[np.int32] | None
    confidence: NDArray[np.float32] | None
    ranks: NDArray[np.int32] | None = None
    several_labels: tuple[Sequence[int], ...] | None = None
    clusters: Clusters = None

    @property
    def each_label(self) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
        """Every label of every image, as two arrays: the position of the image in `images`, and the class."""
        if self.several_labels is None:
            return np.arange(len(self.images)), self.labels
        counts = [len(labels) for labels in self.several_labels]
        return np.repeat(np.arange(len(counts)), counts), np.concatenate(self.several_labels).astype(np.int32)

    @property
    def has_dependent_classes(self) -> bool:
        """Whether tests of classes are dependent, because an image has several or is in a cluster with others."""
        return self.several_labels is not None or self.clusters is not None

    @property
    def one_model_member(self) -> str:
        """The paper's choice of one model: the first member with the lowest one-crop top-1 error."""
        if not self.is_known[TOP_1][: len(self.members), 0].all():
            raise EnsembleEvalError("some one-crop top-1 decisions are missing; the predictions are incomplete")
        wrong = self.wrong[TOP_1][: len(self.members), 0].sum(axis=1)
        return self.members[int(wrong.argmin())]

    @property
    def one_model_note(self) -> str:
        """A sentence for the table's notes: which member is the one model."""
        name = self.one_model_member
        return f"One model is {name}, the member with the lowest one-crop top-1 error on these images."

    @property
    def configurations(self) -> tuple[Configuration, ...]:
        """The rows of Table 3: one model and all models, each with every scheme."""
        models = {1: self.one_model_member, len(self.members): self.names[-1]}
        return tuple(Configuration(count, crops, name) for count, name in models.items() for crops in self.crops)

    def require_known(self, k: int) -> None:
        """Refuse a run that does not store all top-k decisions of its rows.

        Raises:
            UnavailableError: Some are missing; the message names the options that compute them.
        """
        if not self.is_known[k].all():
            raise UnavailableError(
                f"this run used `until_decided` and did not store every top-{k} decision; evaluate with "
                "`top1=True`, or without `until_decided=True`"
            )

    def wrong_by_configuration(self, k: int) -> NDArray[np.bool_]:
        """Return whether each row of Table 3 gets each image wrong, bool [configurations, images].

        Raises:
            UnavailableError: The run does not store all of these decisions.
        """
        self.require_known(k)
        return np.stack([self.outcomes(each, k) for each in self.configurations])

    def outcomes(self, configuration: Configuration, k: int) -> NDArray[np.bool_]:
        """Return whether a configuration gets each image wrong, bool [images].

        Raises:
            EnsembleEvalError: The run does not store this decision for every image.
        """
        position = self.position(configuration)
        if not self.is_known[k][position]:
            raise EnsembleEvalError(f"some top-{k} decisions of {configuration} are missing")
        wrong: NDArray[np.bool_] = self.wrong[k][position]
        return wrong

    def position(self, configuration: Configuration) -> tuple[int, int]:
        """Return the position of a configuration among the names and among the schemes."""
        return self.names.index(configuration.name), self.crops.index(configuration.crops)

    def with_ensemble(self, name: str, ranks: NDArray[np.int32]) -> "Decisions":
        """Return these decisions with those of one more ensemble, from its label ranks [schemes, images]."""
        more = {k: np.concatenate([self.wrong[k], [ranks >= k]]) for k in self.wrong}
        known = {k: np.concatenate([self.is_known[k], np.ones((1, len(self.crops)), bool)]) for k in self.wrong}
        return replace(self, names=(*self.names, name), wrong=more, is_known=known)


@dataclass(frozen=True)
class Row:
    """The figures of a row of Table 3, the columns of `table3.csv`.

    Errors and bounds are in percent, differences in percentage points. The base is one model with one crop.
    `compared_to_base` is negative if the row is better than the base, and 0 for the base itself. `top5_low` and
    `top5_high` are the bounds of the 95% interval of the top-5 error. The top-1 fields are None if a run with
    early exit was not asked for them.
    """

    models: int
    crops: int
    cost: int
    top5_error: float
    compared_to_base: float
    top1_error: float | None
    top5_wrong: int
    top1_wrong: int | None
    images: int
    top5_low: float
    top5_high: float

    def __str__(self) -> str:
        """Models × crops, as the paper names a row."""
        return f"{self.models}×{self.crops}"


def table3(decisions: Decisions, configurations: Iterable[Configuration] | None = None) -> list[Row]:
    """Compute rows of Table 3, by default the paper's; all are compared with one model with one crop.

    Raises:
        EnsembleEvalError: Some top-5 decisions are missing.
    """
    base = decisions.configurations[0]
    return [_row(decisions, each, base) for each in configurations or decisions.configurations]


def table3_table(rows: Sequence[Row], name: str = "table3", notes: Sequence[str] = ()) -> Table:
    """Return Table 3 with the columns of `table3.csv`, in their order; `rows` may be empty."""
    images = rows[0].images if rows else 0
    return table_of(name, f"Table 3: errors on {images} images", rows, COLUMNS, notes)


@dataclass(frozen=True)
class Gain:
    """The top-5 error of the last row of Table 3 compared with the first, the base, on the same images.

    Attributes:
        difference: The error of the last row minus that of the base, in percentage points; negative is better.
        low, high: The paired 95% interval of the difference, in percentage points.
        relative: The difference as a percentage of the error of the base; None if the base has no errors.
    """

    difference: float
    low: float
    high: float
    relative: float | None


def gain(decisions: Decisions) -> Gain:
    """Compare the last row of Table 3 with the first by Tango's score interval for paired proportions."""
    base, last = (decisions.outcomes(decisions.configurations[end], TOP_5) for end in (0, -1))
    fixed, broken = int((base & ~last).sum()), int((last & ~base).sum())
    effect = design_effects(last.astype(np.int8) - base, decisions.clusters)
    low, high = score_interval(fixed / effect, broken / effect, len(base) / effect)
    difference = 100 * float(last.mean() - base.mean())
    relative = difference / float(base.mean()) if base.any() else None
    return Gain(difference, 100 * float(low), 100 * float(high), relative)


def _row(decisions: Decisions, configuration: Configuration, base: Configuration) -> Row:
    wrong, base_wrong = (decisions.outcomes(each, TOP_5) for each in (configuration, base))
    images, top5_wrong = len(wrong), int(wrong.sum())
    knows_top1 = bool(decisions.is_known[TOP_1][decisions.position(configuration)])
    top1_wrong = int(decisions.outcomes(configuration, TOP_1).sum()) if knows_top1 else None
    error = 100 * top5_wrong / images
    [(low, high)] = error_intervals_percent(wrong[None], decisions.clusters)
    return Row(
        models=configuration.models,
        crops=configuration.crops,
        cost=configuration.models * configuration.crops,
        top5_error=error,
        compared_to_base=error - 100 * int(base_wrong.sum()) / images,
        top1_error=None if top1_wrong is None else 100 * top1_wrong / images,
        top5_wrong=top5_wrong,
        top1_wrong=top1_wrong,
        images=images,
        top5_low=low,
        top5_high=high,
    )
