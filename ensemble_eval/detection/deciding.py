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

# Of two boxes of a class. R-CNN's threshold is learnt; this is the one that its code ships.
MOST_OVERLAP = 0.3
# Of a class in an image; ILSVRC's images show some objects of a class, and rarely more.
MOST_DETECTIONS = 100
# Of a softmax, what is left out could only be found at the far end of the precision-recall curve. Beyond the
# margin of an SVM lie the regions that were learnt to be none of the class.
LEAST_SCORES: Mapping[str, float] = {"softmax": 0.01, "svm": -1.0}


@dataclass(frozen=True)
class Configuration:
    """A row of the table.

    Attributes:
        sets: of proposals, whose union is classified.
        models: how many of the first members are averaged.
        classifier: the members' own, or R-CNN's on the features of the first.
    """

    sets: tuple[str, ...]
    models: int
    classifier: Classifier = "softmax"

    @property
    def proposals(self) -> str:
        """The sets in words.

        Example:
            >>> Configuration(("doubled", "multibox"), 6).proposals
            'doubled + multibox'
        """
        return " + ".join(self.sets)


def configurations(names: Collection[str], members: int, *, with_svm: bool = False) -> list[Configuration]:
    """The rows that some sets of proposals and a number of members allow, the smallest number of models first.

    SVMs come last.

    Example:
        >>> [str(each.models) + " " + each.proposals for each in configurations(["rcnn", "doubled"], 6)]
        ['1 rcnn', '1 doubled', '6 rcnn', '6 doubled']
    """
    rows = [Configuration(sets, models) for models in sorted({1, members}) for sets in sets_of(names)]
    return rows + [Configuration(sets, 1, "svm") for sets in sets_of(names) if with_svm]


def decided(
    image: str,
    proposals: Mapping[str, Proposals],
    scores: RegionScores,
    rows: Sequence[Configuration],
    num_classes: int,
) -> list[dict[str, Any]]:
    """The detections of an image, a row for every configuration.

    Args:
        image: its id.
        proposals: by set.
        scores: of the regions of `all_regions`.
        rows: the configurations.
        num_classes: those of objects, which come first.
    """
    index_of = {tuple(box): index for index, box in enumerate(all_regions(proposals).round().tolist())}
    found = []
    for row in rows:
        boxes = united(proposals, row.sets).boxes
        regions = [index_of[tuple(box)] for box in boxes.round().tolist()]
        said = _scores_of(row, scores)[regions].astype(np.float64)
        detections = _detections(boxes, said[:, :num_classes], LEAST_SCORES[row.classifier])
        found.append(
            {
                "image": image,
                "proposals": row.proposals,
                "models": row.models,
                "classifier": row.classifier,
                "boxes": detections.boxes.astype(np.float32).ravel(),
                "classes": detections.classes.astype(np.int32),
                "scores": detections.scores.astype(np.float32),
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


def _detections(boxes: Boxes, scores: NDArray[np.float64], least: float) -> Detections:
    """Suppressed class by class, the classes ascending, the best of each first."""
    kept_boxes, classes, kept_scores = [np.zeros((0, 4))], [np.zeros(0, np.int64)], [np.zeros(0)]
    for index in range(scores.shape[1]):
        candidates = np.flatnonzero(scores[:, index] >= least)
        given = torch.from_numpy(boxes[candidates]), torch.from_numpy(scores[candidates, index])
        kept = candidates[suppress(*given, MOST_OVERLAP).numpy()][:MOST_DETECTIONS]
        kept_boxes.append(boxes[kept])
        classes.append(np.full(len(kept), index, np.int64))
        kept_scores.append(scores[kept, index])
    return Detections(np.concatenate(kept_boxes), np.concatenate(classes), np.concatenate(kept_scores))
