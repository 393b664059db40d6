"""What errors are counted over: parts of a data set, a blacklist, several labels, some classes, no labels."""

import json
from pathlib import Path
from typing import Any

import dataset_layouts as layouts
import numpy as np
import pandas as pd
import pytest
from builders import PICTURE_SIZES, colour_classifier, encoded, picture
from dataset_layouts import CLASSES, Given, Labelled, validation_images

from ensemble_eval.datasets.opening import open_dataset
from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.api import evaluate
from ensemble_eval.evaluation.finishing import Outcome
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.reports.api import read_results
from ensemble_eval.results.compare import compare

SCHEME = 10


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    members = [Member(f"{seed}", predict=colour_classifier(seed), fingerprint=f"{seed}") for seed in range(3)]
    return Ensemble(members, CLASSES)


@pytest.fixture(scope="module")
def images() -> list[Labelled]:
    sizes = (*PICTURE_SIZES, *PICTURE_SIZES)
    return validation_images([encoded(picture(*size, seed), "PNG") for seed, size in enumerate(sizes)])


@pytest.fixture(scope="module")
def given(images: list[Labelled], tmp_path_factory: pytest.TempPathFactory) -> Given:
    return layouts.table(tmp_path_factory.mktemp("data"), images)


def _run(ensemble: Ensemble, given: Given, out: Path, decided: bool = False, **options: Any) -> Outcome:
    labels = options.pop("labels", given.labels)
    dataset = open_dataset(given.root, CLASSES, labels, **options)
    return evaluate(
        ensemble,
        dataset,
        crops=SCHEME,
        out=out,
        until_decided=decided,
        top1=decided,
        device="cpu",
        backend="torch",
        batch_size=8,
    )


def _record(out: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((out / "run.json").read_text())
    return record


@pytest.fixture(scope="module")
def scores(ensemble: Ensemble, given: Given, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Of the ensemble with the largest scheme, stored by a run over all images with their one label."""
    out = tmp_path_factory.mktemp("all")
    _run(ensemble, given, out)
    assert "scope" not in _record(out)["key"]
    rows = read_results(out).predictions().query(f"member == 'ensemble' and crops == {SCHEME}")
    return rows.set_index("image")


def _wrong(scores: pd.DataFrame, labels: dict[str, set[int]], counted: list[int], k: int) -> int:
    """Slowly: sort the counted classes by score, and look whether a label is among the first k."""
    by_image, wrong = scores["scores"].to_dict(), 0
    for image, right in labels.items():
        values = by_image[image]
        best = sorted(counted, key=lambda index: (-values[index], index))[:k]
        wrong += not right.intersection(best)
    return wrong


@pytest.mark.parametrize("decided", [False, True], ids=["full scores", "until decided"])
def test_an_image_is_right_if_any_of_its_labels_is(
    tmp_path: Path, given: Given, ensemble: Ensemble, scores: pd.DataFrame, decided: bool, images: list[Labelled]
) -> None:
    rng = np.random.default_rng(1)
    lists = [
        sorted(rng.choice(7, size=size, replace=False).tolist()) for size in (1, 2, 0, 1, 3, 0, 2, 1, 1, 2, 1, 2)
    ]
    (tmp_path / "real.json").write_text(json.dumps([*lists, [0], [1]]))
    outcome = _run(ensemble, given, tmp_path / "out", decided, labels=tmp_path / "real.json")
    labels = {image.name: set(each) for image, each in zip(images, lists, strict=True) if each}
    last = outcome.rows[-1]
    assert last.images == 10
    assert last.top5_wrong == _wrong(scores, labels, list(range(7)), 5)
    assert last.top1_wrong == _wrong(scores, labels, list(range(7)), 1)
    assert list(outcome.counted) == _record(tmp_path / "out")["counted"]
    assert _record(tmp_path / "out")["counted"] == [
        "10 of 12 images: 2 have no label",
        "an image counts as right if any of its labels is among the k best classes",
    ]
    if not decided:
        [row] = read_results(tmp_path / "out").table3(models=[["0", "2"]], crops=SCHEME).to_dict("records")
        members = read_results(tmp_path / "out").predictions().query(f"crops == {SCHEME} and member in ['0', '2']")
        mean = members.groupby("image")["scores"].apply(lambda pair: np.mean(np.stack(list(pair)), axis=0))
        assert row["top1_wrong"] == _wrong(mean.to_frame("scores"), labels, list(range(7)), 1)


@pytest.mark.parametrize("decided", [False, True], ids=["full scores", "until decided"])
def test_labels_may_be_ranked_among_the_data_sets_own_classes(
    tmp_path: Path, ensemble: Ensemble, scores: pd.DataFrame, decided: bool, images: list[Labelled]
) -> None:
    some = [image for image in images if image.label in (0, 2, 3, 5, 6)]
    given = layouts.class_folders(tmp_path / "data", some)
    labels = {image.name: {image.label} for image in some}
    among_all = _run(ensemble, given, tmp_path / "all", decided)
    assert among_all.counted == ("labels are of 5 classes, and are ranked among all 7",)
    assert _record(tmp_path / "all")["counted"] == list(among_all.counted)
    assert among_all.rows[-1].top1_wrong == _wrong(scores, labels, list(range(7)), 1)
    outcome = _run(ensemble, given, tmp_path / "own", decided, subset_classes="dataset")
    assert outcome.rows[-1].top1_wrong == _wrong(scores, labels, [0, 2, 3, 5, 6], 1)
    assert outcome.rows[-1].top5_wrong == 0
    assert _record(tmp_path / "own")["counted"] == ["labels are ranked among the data set's 5 classes only"]
    assert _record(tmp_path / "own")["key"]["scope"] == {"counted_classes": [0, 2, 3, 5, 6]}
    with pytest.raises(InputError, match=r"belongs to another run .*scope"):
        _run(ensemble, given, tmp_path / "own", decided)
    with pytest.raises(InputError, match=r"all classes, and .* 5 of the classes; compare runs that"):
        compare(read_results(tmp_path / "all"), read_results(tmp_path / "own"))
    if not decided:
        assert set(np.concatenate(read_results(tmp_path / "own").predictions()["top5"])) == {0, 2, 3, 5, 6}


def test_a_blacklist_leaves_images_out_and_says_both_denominators(
    tmp_path: Path, given: Given, ensemble: Ensemble, scores: pd.DataFrame, images: list[Labelled]
) -> None:
    (tmp_path / "blacklist.txt").write_text("3\n12\n40000\n")
    outcome = _run(ensemble, given, tmp_path / "out", blacklist=tmp_path / "blacklist.txt")
    labels = {image.name: {image.label} for number, image in enumerate(images, 1) if number not in (3, 12)}
    assert outcome.rows[-1].images == 10
    assert outcome.rows[-1].top1_wrong == _wrong(scores, labels, list(range(7)), 1)
    assert _record(tmp_path / "out")["counted"] == ["10 of 12 images: 2 are on the blacklist"]


def test_images_without_labels_give_a_submission_and_no_table(
    tmp_path: Path, given: Given, ensemble: Ensemble, scores: pd.DataFrame
) -> None:
    out = tmp_path / "out"
    outcome = _run(ensemble, given, out, labels="none")
    assert not (out / "table3.csv").exists()
    assert (outcome.rows, outcome.table) == ([], out / "submission.txt")
    lines = [[int(word) for word in line.split()] for line in (out / "submission.txt").read_text().splitlines()]
    assert lines == [np.argsort(-values, kind="stable")[:5].tolist() for values in scores.sort_index()["scores"]]
    predictions = read_results(out).predictions()
    assert predictions["label"].isna().all()
    assert predictions["rank"].isna().all()
    with pytest.raises(InputError, match="have no labels, so there is no table of errors"):
        read_results(out).table3()
    with pytest.raises(InputError, match=r"so there is no table of errors$"):
        read_results(out).report()
    with pytest.raises(InputError, match="`until_decided` needs labels, and the images have none"):
        _run(ensemble, given, tmp_path / "other", True, labels="none")
    assert _run(ensemble, given, out, labels="none").passes == outcome.passes


def test_an_image_that_is_unreadable_keeps_its_line_in_a_submission(tmp_path: Path, ensemble: Ensemble) -> None:
    images = validation_images([encoded(picture(40, 30, 1)), b"no image", encoded(picture(40, 30, 2))])
    given = layouts.table(tmp_path / "data", images)
    _run(ensemble, given, tmp_path / "out", labels="none")
    lines = (tmp_path / "out" / "submission.txt").read_text().splitlines()
    assert [line == "-1 -1 -1 -1 -1" for line in lines] == [False, True, False]


def test_the_first_images_and_a_sample_are_runs_of_their_own(
    tmp_path: Path, given: Given, ensemble: Ensemble, scores: pd.DataFrame, images: list[Labelled]
) -> None:
    first = _run(ensemble, given, tmp_path / "first", limit=5)
    labels = {image.name: {image.label} for image in images[:5]}
    assert (first.rows[-1].images, first.rows[-1].top1_wrong) == (5, _wrong(scores, labels, list(range(7)), 1))
    assert _record(tmp_path / "first")["key"]["scope"] == {"part": "the first 5 of 12 images"}
    with pytest.raises(InputError, match="belongs to another run"):
        _run(ensemble, given, tmp_path / "first")
