"""The table of detection against values that were computed by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ensemble_eval.datasets.boxes import Objects
from ensemble_eval.detection.deciding import Configuration
from ensemble_eval.detection.evaluating import DetectionRow, class_table, detection_rows, published_tables
from ensemble_eval.detection.proposals import Proposals

IMAGES = ("0.png", "1.png", "2.png", "3.png")
A, B = (0, 0, 100, 100), (0, 0, 100, 80)
NEAR, FAR = (0, 0, 100, 90), (500, 500, 600, 600)
# Four objects of class 0 in each image, 16 in all, and none of class 1. The last two are never found.
OBJECTS = np.array([A, B, (200, 0, 300, 100), (0, 200, 100, 300)], float)

# NEAR overlaps A by 0.9 and B by 8/9. After A is found, VOC takes it as a second detection of A, the others as
# one of B, up to an overlap of 0.85.
BOTH = ((A, 0, 0.9), (NEAR, 0, 0.5))
MISS = (FAR, 0, 0.99)
OTHER_CLASS = (A, 1, 0.7)
BASE, MORE, WORSE = (
    Configuration(("rcnn",), 1),
    Configuration(("doubled",), 3),
    Configuration(("doubled", "multibox"), 3),
)
FOUND: Mapping[Configuration, Mapping[str, Sequence[tuple[tuple[int, ...], int, float]]]] = {
    BASE: {"0.png": (*BOTH, OTHER_CLASS)},
    MORE: {"1.png": BOTH, "2.png": BOTH, "3.png": BOTH},
    WORSE: {"0.png": (MISS, *BOTH)},
}
REGIONS = {BASE: (3, 5, 2, 2), MORE: (6, 6, 6, 2), WORSE: (7, 7, 6, 2)}


def _stored(configuration: Configuration, number: int) -> Mapping[str, Any]:
    found = FOUND[configuration].get(IMAGES[number], ())
    return {
        "image": IMAGES[number],
        "boxes": np.array([box for box, _, _ in found], float).ravel(),
        "classes": np.array([index for _, index, _ in found], int),
        "scores": np.array([score for _, _, score in found], float),
        "regions": REGIONS[configuration][number],
    }


def _proposals(*boxes: tuple[int, ...]) -> Proposals:
    return Proposals(np.array(boxes, float).reshape(-1, 4), np.zeros(len(boxes)))


@pytest.fixture(scope="module")
def rows() -> dict[Configuration, DetectionRow]:
    none: NDArray[np.bool_] = np.zeros(4, bool)
    shown = Objects(OBJECTS, np.zeros(4, np.int64), none, none)
    # A finds B too. Of the 16 objects one image's sets find 2 alone, three find 6, and all 8.
    proposals = [
        {
            "rcnn": _proposals(*([A] if image == "0.png" else [FAR])),
            "doubled": _proposals(*([] if image == "0.png" else [A])),
            "multibox": _proposals(*([A] if image == "0.png" else [])),
        }
        for image in IMAGES
    ]
    configurations = (BASE, MORE, WORSE)
    images = (
        (shown, of_image, [_stored(each, number) for each in configurations])
        for number, of_image in enumerate(proposals)
    )
    found = detection_rows(images, configurations, num_classes=2)
    return dict(zip(configurations, found, strict=True))


def test_map_is_the_mean_over_the_classes_that_are_there(rows: dict[Configuration, DetectionRow]) -> None:
    # 2 and 6 of 16 objects at a precision of 1, and 2 of 16 at 2 of 3.
    expected = {BASE: 100 * 2 / 16, MORE: 100 * 6 / 16, WORSE: 100 * 2 / 16 * 2 / 3}
    for configuration, percent in expected.items():
        assert rows[configuration].map_percent == pytest.approx(percent)
        assert rows[configuration].by_class_percent == pytest.approx([percent, np.nan], nan_ok=True)


def test_each_rule_has_its_own_mean(rows: dict[Configuration, DetectionRow]) -> None:
    # VOC: 1, 3 and 1 of 16 objects, the last at a precision of 1 of 2.
    voc = [rows[each].voc_percent for each in (BASE, MORE, WORSE)]
    assert voc == pytest.approx([100 / 16, 100 * 3 / 16, 100 / 16 / 2])
    # COCO at 0.5: of the recalls 0, 0.01, … those up to 2/16 are 13, up to 6/16 38.
    half = [rows[each].coco_50_percent for each in (BASE, MORE, WORSE)]
    assert half == pytest.approx([100 * 13 / 101, 100 * 38 / 101, 100 * 13 / 101 * 2 / 3])
    # At 0.9 and 0.95 only A is found: 7 recalls up to 1/16, 19 up to 3/16.
    coco = [rows[each].coco_percent for each in (BASE, MORE, WORSE)]
    assert coco == pytest.approx(
        [
            10 * (8 * 13 + 2 * 7) / 101,
            10 * (8 * 38 + 2 * 19) / 101,
            10 * (8 * 13 * 2 / 3 + 2 * 7 / 2) / 101,
        ]
    )


def test_rows_are_compared_to_the_first_by_a_paired_bootstrap(rows: dict[Configuration, DetectionRow]) -> None:
    """How often image 0 is drawn decides: 0 to 4 times of 4, by a binomial of 1/4.

    It is drawn 4 times in 0.4% of the resamples, 3 times in 4.7%, and never in 32%. So at 2.5% stands what 3 times
    give, and at 97.5% what never gives.
    """
    assert (rows[BASE].compared_to_base, rows[BASE].interval) == (None, None)
    # Of w times the base finds 2w of 16 objects, the other 2(4 - w).
    assert rows[MORE].compared_to_base == pytest.approx(25)
    assert rows[MORE].interval == pytest.approx((100 * (2 - 6) / 16, 100 * 8 / 16))
    # The same objects at two thirds of the precision.
    assert rows[WORSE].compared_to_base == pytest.approx(-100 * 2 / 16 / 3)
    assert rows[WORSE].interval == pytest.approx((-100 * 6 / 16 / 3, 0))


def test_regions_passes_and_coverage_are_counted(rows: dict[Configuration, DetectionRow]) -> None:
    counted = [(row.proposals_per_image, row.passes, row.images) for row in rows.values()]
    assert counted == [(3, 12, 4), (5, 60, 4), (5.5, 66, 4)]
    assert [row.coverage_percent for row in rows.values()] == pytest.approx([12.5, 37.5, 50])


def test_each_class_has_a_line_and_a_class_without_objects_no_number(
    rows: dict[Configuration, DetectionRow],
) -> None:
    table = class_table(list(rows.values()), ["cat", "dog"])
    assert [column.key for column in table.columns] == [
        *("class", "rcnn_1_softmax", "doubled_3_softmax", "doubled+multibox_3_softmax"),
    ]
    cat, dog = table.rows
    assert cat[0] == "cat"
    assert cat[1:] == pytest.approx((12.5, 37.5, 25 / 3))
    assert dog == ("dog", None, None, None)


def test_the_best_row_and_the_best_of_one_model_stand_among_the_papers(
    rows: dict[Configuration, DetectionRow],
) -> None:
    """In the order of Table 4 and Table 5, the lowest first."""
    four, five = published_tables(list(rows.values()), "squares")
    [ours] = [row for row in four.rows if row[0] == "this run"]
    assert ours == ("this run", "", "", 37.5, "", "3", "measured here, on squares")
    [alone] = [row for row in five.rows if row[0] == "this run"]
    assert alone == ("this run", 12.5, "no", "no", "measured here, on squares")
    for table in (four, five):
        column = [each.key for each in table.columns].index("map")
        precisions = [float(str(row[column])) for row in table.rows]
        assert precisions == sorted(precisions)
