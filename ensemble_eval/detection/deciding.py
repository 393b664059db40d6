"""From the class scores of an image's regions to its detections, for every configuration."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ensemble_eval.datasets.boxes import Boxes
from ensemble_eval.detection.proposals import Proposals, all_regions, sets_of, united
from ensemble_eval.detection.region_scores import RegionScores
from ensemble_eval.detection.regions import suppress
from ensemble_eval.scoring.average_precision import Detections

Classifier = Literal["softmax", "svm"]

# The overlap above which the worse of two boxes of a class is suppressed. R-CNN's paper learns the threshold; its
# code uses this one.
MAX_OVERLAP = 0.3
# For each class in an image; an image of ILSVRC rarely shows more than a few objects of a class.
MAX_DETECTIONS = 100
# A lower softmax changes only the far end of the precision-recall curve. Below a margin of -1 lie the regions that
# the SVM learnt not to be of its class.
MIN_SCORES: Mapping[str, float] = {"softmax": 0.01, "svm": -1.0}


@dataclass(frozen=True)
class Configuration:
    """A row of the table.

    Attributes:
        sets: The sets of proposals whose union is classified.
        models: How many of the first members are averaged.
        classifier: The members' own softmax, or R-CNN's SVMs on the features of the first member.
    """

    sets: tuple[str, ...]
    models: int
    classifier: Classifier = "softmax"

    @property
    def proposals(self) -> str:
        """The names of the sets in one text.

        Example:
            >>> Configuration(("doubled", "multibox"), 6).proposals
            'doubled + multibox'
        """
        return " + ".join(self.sets)


def configurations(names: Collection[str], members: int, *, with_svm: bool) -> list[Configuration]:
    """The rows of the table for some sets of proposals and a number of members.

    Rows of one model come first, and those of SVMs last.

    Example:
        >>> rows = configurations(["rcnn", "doubled"], 6, with_svm=False)
        >>> [f"{row.models} {row.proposals}" for row in rows]
        ['1 rcnn', '1 doubled', '6 rcnn', '6 doubled']
    """
    rows = [Configuration(sets, models) for models in sorted({1, members}) for sets in sets_of(names)]
    return rows + [Configuration(sets, 1, "svm") for sets in sets_of(names) if with_svm]


def detect_image(
    image: str,
    proposals: Mapping[str, Proposals],
    scores: RegionScores,
    rows: Sequence[Configuration],
    num_classes: int,
) -> list[dict[str, Any]]:
    """Select the detections of an image from the scores of its regions, and return a row for every configuration.

    Args:
        image: The image's id.
        proposals: Its proposals by set.
        scores: The scores of the regions of `all_regions`.
        rows: The configurations.
        num_classes: The number of classes of objects, which come before "no object".
    """
    index_of = {tuple(box): index for index, box in enumerate(all_regions(proposals).round().tolist())}
    found = []
    for row in rows:
        boxes = united(proposals, row.sets).boxes
        regions = [index_of[tuple(box)] for box in boxes.round().tolist()]
        scores_of_row = _scores_of(row, scores)[regions, :num_classes].astype(np.float64)
        kept, classes = _detections(boxes, scores_of_row, MIN_SCORES[row.classifier])
        found.append(
            {
                "image": image,
                "proposals": row.proposals,
                "models": row.models,
                "classifier": row.classifier,
                "boxes": boxes[kept].astype(np.float32).ravel(),
                "classes": classes.astype(np.int32),
                "scores": scores_of_row[kept, classes].astype(np.float32),
                "regions": len(regions),
            }
        )
    return found


def _scores_of(row: Configuration, scores: RegionScores) -> NDArray[np.floating[Any]]:
    if row.classifier == "svm":
        assert scores.margins is not None
        return scores.margins
    return scores.first_model if row.models == 1 else scores.mean_softmax


def detections_of(row: Mapping[str, Any]) -> Detections:
    """The detections of a stored row."""
    boxes = row["boxes"].astype(np.float64).reshape(-1, 4)
    return Detections(boxes, row["classes"].astype(np.int64), row["scores"].astype(np.float64))


def _detections(
    boxes: Boxes, scores: NDArray[np.float64], least: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The regions that are detections, and their classes, ascending; the best of each class come first."""
    kept = []
    for of_class in scores.T:
        candidates = np.flatnonzero(of_class >= least)
        given = torch.from_numpy(boxes[candidates]), torch.from_numpy(of_class[candidates])
        kept.append(candidates[suppress(*given, MAX_OVERLAP).numpy()][:MAX_DETECTIONS])
    classes = np.repeat(np.arange(len(kept)), [len(each) for each in kept])
    return np.concatenate([np.zeros(0, np.int64), *kept]), classes
