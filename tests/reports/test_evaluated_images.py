"""The gallery finds the images of a run in whichever layout they lie."""

import tarfile
from dataclasses import replace
from pathlib import Path

import dataset_layouts as layouts
import pytest
from builders import colour_classifier, encoded, picture
from dataset_layouts import CLASSES, validation_images

from ensemble_eval.datasets.items import Dataset
from ensemble_eval.datasets.opening import open_dataset
from ensemble_eval.errors import InputError, UnreadableImageError
from ensemble_eval.evaluation.api import evaluate
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.reports.api import Results, read_results
from ensemble_eval.reports.gallery import EvaluatedImages

IMAGES = validation_images([encoded(picture(40 + seed, 36, seed)) for seed in range(12)])


def _results(dataset: Dataset, out: Path) -> Results:
    ensemble = Ensemble([Member("a", predict=colour_classifier(0), fingerprint="a")], CLASSES)
    evaluate(ensemble, dataset, crops=1, out=out, device="cpu")
    return read_results(out)


@pytest.mark.parametrize("layout", sorted(layouts.LAYOUTS))
def test_every_image_is_found_again(tmp_path: Path, layout: str) -> None:
    given = layouts.LAYOUTS[layout](tmp_path / "data", IMAGES)
    dataset = open_dataset(given.root, CLASSES, given.labels)
    images = EvaluatedImages(_results(dataset, tmp_path / "out"), Path(given.root))
    assert [images.read(item.id) for item in dataset.items] == [item.read() for item in dataset.items]
    with pytest.raises(UnreadableImageError):
        images.read("another.png")


def test_an_image_that_changed_is_not_shown(tmp_path: Path) -> None:
    given = layouts.tar_of_folders(tmp_path / "data", IMAGES)
    dataset = open_dataset(given.root, CLASSES)
    results = _results(dataset, tmp_path / "out")
    others = [replace(image, data=encoded(picture(31, 37, 99))) for image in IMAGES]
    changed = layouts.tar_of_folders(tmp_path / "changed", others)
    with pytest.raises(UnreadableImageError, match="is not as it was evaluated"):
        EvaluatedImages(results, Path(changed.root)).read(dataset.items[0].id)


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    given = layouts.class_folders(tmp_path / "data", IMAGES)
    results = _results(open_dataset(given.root, CLASSES), tmp_path / "out")
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    for name in ("nowhere", "empty.tar"):
        with pytest.raises(InputError, match=f"`data` is not the data set that was evaluated: .*{name}"):
            EvaluatedImages(results, tmp_path / name)
