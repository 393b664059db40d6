"""Other numbers of models and crops, groups of crops, and other averages, for a run that stored every rank."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ensemble_eval.errors import EnsembleEvalError, InputError, UnavailableError
from ensemble_eval.evaluation.key import CROP_RANK_COLUMNS
from ensemble_eval.results.reading import StoredRun
from ensemble_eval.results.row_tables import tests_note
from ensemble_eval.scoring.clusters import Clusters, cluster_count, design_effects, error_intervals_percent
from ensemble_eval.scoring.crop_ranks import RULES, CropGroup, groups_of
from ensemble_eval.scoring.intervals import score_interval
from ensemble_eval.scoring.paired import MARGIN_POINTS, paired_differences, pairs_with_first
from ensemble_eval.scoring.table3 import TOP_1, TOP_5
from ensemble_eval.tables.formats import Displayed
from ensemble_eval.tables.table import FilledColumn, Kind, Table, Value, table_of

_SOFTMAX_MEAN, _GEOMETRIC_MEAN = "softmax mean", "geometric mean"
_LOGIT_MEAN, _FIRST_CROP = "logit mean", "mean over models, first crop only"
# Columns of `CropStudy.averaging`, and the attributes of a paired difference that they hold.
_OF_DIFFERENCES = {
    **{name: name for name in ("fixed", "broken", "difference_points")},
    **{f"difference_{name}": name for name in ("low_points", "high_points")},
    **{name: name for name in ("mcnemar_p", "adjusted_p")},
    "verdict": "verdict_text",
}
_PAIRED = "paired 95% interval"


def _column(key: str, title: str, kind: Kind, *names: str) -> FilledColumn[Mapping[Hashable, Any]]:
    """A column of a table from the column `key` of a frame, or from others; two of them are bounds."""

    def cell(row: Mapping[Hashable, Any]) -> Value:
        low, *high = (row[name] for name in names or (key,))
        if pd.isna(low):
            return None
        return (low, *high) if high else int(low) if kind == "count" else low

    return key, title, kind, cell


_COLUMNS = {
    "enough_crops": [
        _column("error_of", "error of", "text"),
        _column("crops", "crops", "count"),
        _column("error", "error with so many", "percent", "error_percent"),
        _column("difference", "all crops change it by", "points", "difference_points"),
        _column("difference", _PAIRED, "points interval", "low_points", "high_points"),
    ],
    "averaging": [
        _column("error_of", "error of", "text"),
        _column("rule", "rule", "text"),
        _column("error", "error", "percent", "error_percent"),
        _column("error", "95% interval", "percent interval", "low_percent", "high_percent"),
        _column("fixed", "fixed", "count"),
        _column("broken", "broken", "count"),
        _column("difference", "difference", "points", "difference_points"),
        _column("difference", _PAIRED, "points interval", "difference_low_points", "difference_high_points"),
        _column("adjusted_p", "adjusted p", "p"),
        _column("verdict", "against the first", "text"),
    ],
    "views": [
        _column("error_of", "error of", "text"),
        _column("kind", "crops by", "text"),
        _column("name", "group", "text"),
        _column("crops", "crops", "count"),
        _column("error_alone", "error with these alone", "percent", "error_alone_percent"),
        _column("error_without", "without these", "percent", "error_without_percent"),
        _column("without", "leaving them out costs", "points", "without_points"),
        _column("without", _PAIRED, "points interval", "low_points", "high_points"),
    ],
    "surface": [
        _column("models", "models", "count"),
        _column("crops", "crops", "count"),
        _column("cost", "cost", "count"),
        _column("top5_error", "top-5 error", "percent", "error_percent"),
        _column("top5", "95% interval", "percent interval", "low_percent", "high_percent"),
        _column("top1_error", "top-1 error", "percent", "error_percent_1"),
        _column("top1", "95% interval", "percent interval", "low_percent_1", "high_percent_1"),
    ],
}


@dataclass(frozen=True)
class EnoughCrops:
    """The number of crops after which more crops do not help.

    Attributes:
        crops: The smallest number such that no larger number is better, by the paired interval at 95%.
        models: The number of models.
        error_percent: The error with `crops`.
        difference_points: The error with all crops minus that with `crops`, in percentage points.
        low_points, high_points: The paired interval of the difference at 95%.
    """

    crops: int
    models: int
    error_percent: float
    difference_points: float
    low_points: float
    high_points: float


@dataclass(frozen=True, repr=False)
class CropStudy(Displayed):
    """The label ranks in other means over the same passes, as `scoring.crop_ranks.CropRanks` defines them.

    Attributes:
        members: Names, in the order of the ensemble.
        rows: The members, and with several of them "ensemble".
        schemes: Numbers of crops, ascending.
        groups: The groups of crops.
        surface_ranks: uint16 [images, members, crops], images sorted as in `StoredRun.images`.
        group_ranks: uint16 [images, rows, groups, 2].
        rule_ranks: uint16 [images, rows, rules, schemes].
        clusters: The cluster of each image; None if images are independent.
    """

    members: tuple[str, ...]
    rows: tuple[str, ...]
    schemes: tuple[int, ...]
    groups: tuple[CropGroup, ...]
    surface_ranks: NDArray[np.uint16]
    group_ranks: NDArray[np.uint16]
    rule_ranks: NDArray[np.uint16]
    clusters: Clusters = None

    def _facts(self) -> dict[str, object]:
        return {"members": self.members, "images": self.images, "crops": self.crops, "groups": len(self.groups)}

    @property
    def images(self) -> int:
        """The number of images."""
        return len(self.surface_ranks)

    @property
    def crops(self) -> int:
        """The largest scheme."""
        return self.schemes[-1]

    def error_percent(self, top: int = 5) -> NDArray[np.float64]:
        """The errors of `surface` as an array [models, crops], in percent."""
        errors: NDArray[np.float64] = 100 * (self.surface_ranks >= _checked(top)).mean(axis=0)
        return errors

    def surface(self, top: int = 5) -> pd.DataFrame:
        """The error of the first models with the first crops, for every number of both.

        Args:
            top: An image is right if its label is among so many best classes.

        Returns:
            Columns `models, crops, cost, images, wrong, error_percent, low_percent, high_percent`; models
            ascending, then crops; Wilson's interval at 95%.
        """
        wrong = self.surface_ranks >= _checked(top)
        counts = np.indices(wrong.shape[1:]).reshape(2, -1).T + 1
        frame = pd.DataFrame(counts, columns=["models", "crops"])
        frame["cost"] = frame["models"] * frame["crops"]
        return _with_errors(frame, wrong.reshape(self.images, -1).T, self.clusters)

    def enough_crops(self, top: int = 5) -> EnoughCrops:
        """The number of crops after which more crops do not help all models together.

        Every number of crops is compared with every larger one, without adjustment. With so many comparisons some
        larger number is better by chance, so the result is rather too large than too small.

        Args:
            top: As of `surface`.
        """
        wrong = self.surface_ranks[:, -1] >= _checked(top)
        both = wrong.T.astype(np.float64) @ wrong
        alone = both.diagonal()
        fixed, broken = (alone[:, None] - both).astype(int), (alone[None, :] - both).astype(int)
        effect = np.ones((1, 1))
        if self.clusters is not None:
            each = wrong.T.astype(np.int8)
            effect = np.stack([design_effects(each - one, self.clusters) for one in each])
        low, high = score_interval(fixed / effect, broken / effect, self.images / effect)
        better = np.triu(high < 0, k=1)
        # The result is the number after the last one that has a better number after it.
        enough = int(np.flatnonzero(better.any(axis=1)).max(initial=-1)) + 1
        return EnoughCrops(
            crops=enough + 1,
            models=len(self.members),
            error_percent=100 * float(wrong[:, enough].mean()),
            difference_points=100 * float(wrong[:, -1].mean() - wrong[:, enough].mean()),
            low_points=100 * float(low[enough, -1]),
            high_points=100 * float(high[enough, -1]),
        )

    def views(self, top: int = 5) -> pd.DataFrame:
        """The errors with the crops of each group alone, and with all crops but them.

        Args:
            top: As of `surface`.

        Returns:
            A row for each group, for all models: columns `kind, name, crops, wrong_alone, error_alone_percent,
            wrong_without, error_without_percent, without_points, low_points, high_points`. The last three are the
            error without the group minus that with all crops, and the paired interval at 95%.
        """
        groups = [(group.kind, group.name, len(group.crops)) for group in self.groups]
        wrong = self.group_ranks[:, -1] >= _checked(top)
        whole, without = self.surface_ranks[:, -1, -1, None] >= top, wrong[:, :, 1]
        fixed, broken = (whole & ~without).sum(axis=0), (without & ~whole).sum(axis=0)
        effect = design_effects(without.T.astype(np.int8) - whole.T, self.clusters)
        low, high = score_interval(fixed / effect, broken / effect, self.images / effect)
        alone_wrong, without_wrong = wrong.sum(axis=0).T
        return pd.DataFrame(groups, columns=["kind", "name", "crops"]).assign(
            wrong_alone=alone_wrong,
            error_alone_percent=100 * alone_wrong / self.images,
            wrong_without=without_wrong,
            error_without_percent=100 * without_wrong / self.images,
            without_points=100 * (broken - fixed) / self.images,
            low_points=100 * low,
            high_points=100 * high,
        )

    def averaging(
        self, top: int = 5, crops: int | None = None, row: str | None = None, margin: float = MARGIN_POINTS
    ) -> pd.DataFrame:
        """Other ways to average, each compared with the paper's mean of softmax outputs over the same images.

        The mean of logits decides like the geometric mean of probabilities, because logits are logarithms of
        probabilities plus a constant of each pass. So the rows of both have the same numbers.

        Args:
            top: As of `surface`.
            crops: A scheme; None for the largest.
            row: The name of a member; None for all models.
            margin: Errors that differ by less count as equal, in percentage points.

        Returns:
            A row for each rule: `rule, images, wrong, error_percent, low_percent, high_percent, fixed, broken,
            difference_points, difference_low_points, difference_high_points, mcnemar_p, adjusted_p, verdict`.

        Raises:
            InputError: There is no such scheme or row, or a package of the extra `[report]` is not installed.
        """
        scheme = _position(self.schemes, self.crops if crops is None else crops, "crops")
        position = len(self.rows) - 1 if row is None else _position(self.rows, row, "row")
        ranks = dict(zip(RULES, self.rule_ranks[:, position, :, scheme].T, strict=True))
        rules = {_SOFTMAX_MEAN: ranks.pop(_SOFTMAX_MEAN), _LOGIT_MEAN: ranks[_GEOMETRIC_MEAN], **ranks}
        if self.schemes[scheme] > 1 and len(self.members) > 1 and position == len(self.rows) - 1:
            rules[_FIRST_CROP] = self.rule_ranks[:, position, list(RULES).index(_SOFTMAX_MEAN), 0]
        wrong = np.stack([each >= _checked(top) for each in rules.values()])
        frame = _with_errors(pd.DataFrame({"rule": list(rules)}), wrong, self.clusters)
        found = paired_differences(
            wrong, pairs_with_first(len(wrong)), margin_points=margin, clusters=self.clusters
        )
        differences = pd.DataFrame(
            {column: [getattr(each, name) for each in found] for column, name in _OF_DIFFERENCES.items()},
            index=range(1, len(wrong)),
        )
        return frame.join(differences)


def read_crop_study(results: StoredRun) -> CropStudy:
    """Read the label ranks that a run with `surface=True` stored, whether it is finished or not.

    Raises:
        InputError: The run stored no such ranks, or has no image yet.
        EnsembleEvalError: The run has rewritten a part since the folder was read.
    """
    if not results.key.surface:
        raise UnavailableError(
            "this run kept no ranks for other numbers of models and crops; evaluate with `surface=True`"
        )
    if not results.images:
        raise InputError(f"no image in {results.folder} has predictions")
    members = len(results.members)
    rows = members + (members > 1)
    groups = groups_of(results.key.rule)
    shapes = {
        "surface_ranks": (members, results.crops[-1]),
        "group_ranks": (rows, len(groups), 2),
        "rule_ranks": (rows, len(RULES), len(results.crops)),
    }
    tables = results.tables(["image", *CROP_RANK_COLUMNS])
    kept = pa.concat_tables(table.filter(pc.is_valid(table[CROP_RANK_COLUMNS[0]])) for table in tables)
    # Parts hold images in the order in which they were finished.
    order = pc.sort_indices(kept["image"])
    if kept["image"].take(order).to_pylist() != list(results.images):
        raise EnsembleEvalError(f"{results.folder} lacks ranks of some images, or holds them twice")
    ranks = {
        name: pc.list_flatten(kept[name]).to_numpy().reshape(len(order), *shape)[order.to_numpy()]
        for name, shape in shapes.items()
    }
    return CropStudy(results.members, results.key.row_names, results.crops, groups, **ranks)


def crop_tables(study: CropStudy, margin_points: float) -> list[Table]:
    """Tables of the number of crops that is enough, of averages, of groups of crops, and of the surface.

    Args:
        study: The study of a run.
        margin_points: Two errors that differ by less count as equal.
    """
    enough = _by_error(lambda k: pd.DataFrame([study.enough_crops(k)]))
    averaging = _by_error(lambda k: study.averaging(k, margin=margin_points)).fillna({"verdict": "the paper's"})
    top5, top1 = study.surface(TOP_5), study.surface(TOP_1)
    return [
        _table_of_frame(
            "enough_crops",
            "Number of crops beyond which more do not help, all models",
            enough,
            "By the paired 95% intervals, no larger number of crops is better than this one, which is the "
            "smallest such number. The intervals are not adjusted for the many comparisons, so this number is "
            "more likely too large than too small.",
        ),
        _table_of_frame(
            "averaging",
            f"Averaging rules, all models with {study.crops} crops",
            averaging,
            "Every rule is compared with the mean of softmax outputs, image by image. The mean of logits gives "
            "the same decisions as the geometric mean of probabilities.",
            tests_note(averaging["rule"].nunique() - 1, margin_points, cluster_count(study.clusters)),
        ),
        _table_of_frame(
            "views",
            "Groups of crops: errors with these alone and without them, all models",
            _by_error(study.views),
            "A group helps if its interval lies above 0. Groups overlap, and the intervals are not adjusted.",
        ),
        _table_of_frame(
            "surface",
            "Errors for every number of models and crops",
            top5.join(top1.add_suffix("_1")),
            "The first members of the ensemble with the first crops in the crop order. The rows of Table 3 for "
            "one model use the member that the paper's rule chooses, which may not be the first one.",
        ),
    ]


def _by_error(frame_of: Callable[[int], pd.DataFrame]) -> pd.DataFrame:
    """The frames of both errors below each other, with a column that names the error."""
    return pd.concat({f"top-{k}": frame_of(k) for k in (TOP_5, TOP_1)}, names=["error_of"]).reset_index(level=0)


def _table_of_frame(name: str, title: str, frame: pd.DataFrame, *notes: str) -> Table:
    return table_of(name, title, frame.to_dict("records"), _COLUMNS[name], notes)


def _with_errors(frame: pd.DataFrame, wrong: NDArray[np.bool_], clusters: Clusters) -> pd.DataFrame:
    """Add the errors of rows and their intervals; `wrong` is [rows, images]."""
    counts, images = wrong.sum(axis=1), wrong.shape[1]
    low, high = zip(*error_intervals_percent(wrong, clusters), strict=True)
    error = 100 * counts / images
    return frame.assign(images=images, wrong=counts, error_percent=error, low_percent=low, high_percent=high)


def _checked(top: int) -> int:
    if top < 1:
        raise InputError(f"`top` is at least 1, not {top}")
    return top


def _position(known: tuple[object, ...], value: object, name: str) -> int:
    if value not in known:
        raise InputError(f"`{name}` is one of {', '.join(map(str, known))}, not {value}")
    return known.index(value)
