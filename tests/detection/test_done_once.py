"""What `detect` does once, however many regions, configurations and rules there are."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from drawn_boxes import colour_ensemble, draw, outcome_of, some_proposals, store_proposals

from ensemble_eval.crops import pixels
from ensemble_eval.detection import region_scores
from ensemble_eval.detection.detecting import DetectJob
from ensemble_eval.detection.proposals import all_regions
from ensemble_eval.scoring import average_precision
from ensemble_eval.settings import DetectSettings
from ensemble_eval.store.store import Store

IMAGES, CONFIGURATIONS, CHUNK_REGIONS = 6, 6, 8
LAST = f"pictures/{IMAGES - 1}.png"


SETS = ("rcnn", "doubled", "multibox")


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """How often one `detect` on three sets of proposals did what, by name."""
    folder = tmp_path_factory.mktemp("done-once")
    drawn = draw(folder, IMAGES)
    sets = {name: some_proposals(drawn, seed) for seed, name in enumerate(SETS)}
    proposals = store_proposals(folder / "proposals", drawn.opened(), sets)
    settings = DetectSettings(
        proposals=proposals, out=folder / "out", boxes=drawn.boxes, device="cpu", backend="torch", workers=2
    )
    job = DetectJob(colour_ensemble(), drawn.opened(), settings)
    counts = Counter[str]()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(region_scores, "CHUNK_REGIONS", CHUNK_REGIONS)
        for owner, name in ((pixels, "decode"), (Store, "rows"), (average_precision, "overlaps")):
            patched.setattr(owner, name, _counted(getattr(owner, name), counts))
        assert len(outcome_of(job).rows) == CONFIGURATIONS
    rows = [row for image in drawn.objects for row in job.data.store.rows(image)]
    counts["classes in rows"] = sum(len(np.unique(row["classes"])) for row in rows)
    counts["regions of an image"] = min(
        len(all_regions(of_image)) for image, of_image in job.data.proposals.items() if image != LAST
    )
    return counts


def _counted(original: Callable[..., Any], counts: Counter[str]) -> Callable[..., Any]:
    def counted(*arguments: Any) -> Any:
        of = arguments[0].folder.name if isinstance(arguments[0], Store) else original.__name__
        counts[of] += 1
        return original(*arguments)

    return counted


def test_an_image_is_decoded_once_however_many_regions_it_has(counts: Counter[str]) -> None:
    assert counts["regions of an image"] > 2 * CHUNK_REGIONS
    # The last image has no regions.
    assert counts["decode"] == IMAGES - 1


def test_stored_rows_are_read_for_the_tables_and_for_the_files_of_the_best_row(counts: Counter[str]) -> None:
    assert counts["detections"] == 2 * IMAGES


def test_proposals_are_read_for_the_regions_and_for_the_coverage(counts: Counter[str]) -> None:
    assert {counts[name] for name in SETS} == {2 * IMAGES}


def test_overlaps_are_computed_once_for_all_rules(counts: Counter[str]) -> None:
    assert counts["overlaps"] == counts["classes in rows"]
