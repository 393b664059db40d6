"""The coverage of stored proposals as a table and a curve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ensemble_eval.datasets.boxes import Boxes, Objects
from ensemble_eval.detection.proposals import Proposals, in_words, sets_of, united
from ensemble_eval.files import csv_text, write_atomically
from ensemble_eval.scoring.coverage import Coverage, coverage

COVERAGE_FILE = "coverage.csv"
BUDGETS = (1, 2, 5, 10, 20, 50, 100, 200, 300, 500, 700, 1000, 1500, 2000, 3000, 10_000)
# Sets without scores have no best boxes; these are drawn.
_SEED = 0


@dataclass(frozen=True)
class SetCoverage:
    """The coverage of one configuration of proposals.

    Attributes:
        sets: of which it is the union.
        found: its coverage.
    """

    sets: tuple[str, ...]
    found: Coverage

    @property
    def name(self) -> str:
        """Its sets in words.

        Example:
            >>> SetCoverage(("doubled", "multibox"), None).name
            'doubled + multibox'
        """
        return in_words(self.sets)


def coverage_of_sets(
    proposals: Mapping[str, Mapping[str, Proposals]], objects: Mapping[str, Objects], names: Sequence[str]
) -> list[SetCoverage]:
    """The coverage of every configuration that the sets allow.

    Boxes with scores come in their order, then those without in an order that a seed draws.

    Args:
        proposals: by image, then by set.
        objects: what each image shows.
        names: of the sets.
    """
    return [
        SetCoverage(
            sets,
            coverage(
                (
                    (shown, _ordered(united(proposals[image], sets), number))
                    for number, (image, shown) in enumerate(sorted(objects.items()))
                ),
                BUDGETS,
            ),
        )
        for sets in sets_of(names)
    ]


def write_coverage(out: Path, rows: Sequence[SetCoverage]) -> Path:
    """Write `coverage.csv`, a row for every configuration and number of proposals; return its path."""
    columns = ["proposals", "boxes", "coverage", "mean_coverage", "objects", "proposals_per_image"]
    lines = [
        [each.name, str(boxes), f"{half:.6f}", f"{mean:.6f}", str(found.objects), f"{found.boxes_per_image:.2f}"]
        for each in rows
        for found in [each.found]
        for boxes, half, mean in zip(found.boxes, found.at_half, found.mean, strict=True)
    ]
    path = out / COVERAGE_FILE
    write_atomically(path, csv_text(columns, lines).encode())
    return path


def _ordered(proposals: Proposals, number: int) -> Boxes:
    drawn = np.random.default_rng((_SEED, number)).random(len(proposals.scores))
    return proposals.boxes[np.lexsort((drawn, -proposals.scores))]
