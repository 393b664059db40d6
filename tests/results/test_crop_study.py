"""A run that keeps every rank: what is stored, read back and counted."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from builders import CLASS_NAMES, colour_classifier, googlenet_plan
from conftest import Cli

import ensemble_eval as ee
from ensemble_eval.crops import pixels
from ensemble_eval.crops.protocols import GOOGLENET
from ensemble_eval.errors import InputError
from ensemble_eval.results.crop_study import CropStudy
from ensemble_eval.scoring.crop_ranks import RULES
from ensemble_eval.scoring.intervals import error_interval_percent, score_interval
from ensemble_eval.scoring.metrics import label_rank
from ensemble_eval.scoring.paired import paired_differences

Images = list[tuple[str, int, bytes]]
MEMBERS = 3


@pytest.fixture(scope="module")
def images(dataset: Path) -> Images:
    paths = sorted(dataset.rglob("*.png"))
    return [(path.name, CLASS_NAMES.index(path.parent.name), path.read_bytes()) for path in paths]


def ensemble(members: int = MEMBERS) -> ee.Ensemble:
    named = [ee.Member(f"m{n}", predict=colour_classifier(n), fingerprint=f"{n}") for n in range(members)]
    return ee.Ensemble(named, list(CLASS_NAMES))


def evaluate(images: Images, out: Path, members: int = MEMBERS, **arguments: object) -> ee.Results:
    settings = {"crops": 144, "surface": True, "device": "cpu", "batch_size": 16, **arguments}
    ee.evaluate(ensemble(members), images, out=out, **settings)  # type: ignore[arg-type]  # of several kinds
    return ee.read_results(out)


@pytest.fixture(scope="module")
def results(images: Images, tmp_path_factory: pytest.TempPathFactory) -> ee.Results:
    return evaluate(images, tmp_path_factory.mktemp("surface"))


def softmax_of_crops(data: bytes) -> np.ndarray:
    """float32 [crops, members, classes], cut and run one by one."""
    image = pixels.decode(data)
    _, height, width = image.shape
    source = pixels.prepare(image, googlenet_plan(width, height, 144))
    views = GOOGLENET.views_of(width, height)
    predicts = [colour_classifier(n) for n in range(MEMBERS)]
    rows = [torch.cat([predict(source.cut(view)[None]) for predict in predicts]) for view in views]
    return torch.stack(rows).numpy()


@pytest.mark.slow
def test_every_cell_is_what_crops_run_one_by_one_decide(results: ee.Results, images: Images) -> None:
    """Square images too, whose 48 views stand for 144 crops."""
    study = results.crop_study()
    for number, image in enumerate(results.images):
        label, data = next((label, data) for name, label, data in images if name == image)
        by_crop = softmax_of_crops(data).astype(np.float64)
        for models in range(1, MEMBERS + 1):
            for crops in (1, 2, 5, 10, 12, 13, 50, 100, 143, 144):
                mean = by_crop[:crops, :models].mean(axis=0).mean(axis=0)
                assert study.surface_ranks[number, models - 1, crops - 1] == label_rank(mean, label)


def test_cells_of_stored_rows_are_the_stored_ranks(results: ee.Results) -> None:
    study, stored = results.crop_study(), results.predictions(["image", "member", "crops", "rank"])
    for crops in results.crops:
        for member, models in (("m0", 1), ("ensemble", MEMBERS)):
            rows = stored[(stored["member"] == member) & (stored["crops"] == crops)]
            assert rows["rank"].tolist() == study.surface_ranks[:, models - 1, crops - 1].tolist()
    for place, member in enumerate(study.rows):
        rows = stored[(stored["member"] == member) & (stored["crops"] == 144)]
        assert rows["rank"].tolist() == study.rule_ranks[:, place, 0, 2].tolist()


def test_predictions_and_the_table_are_those_of_a_run_without(
    results: ee.Results, images: Images, tmp_path: Path
) -> None:
    without = evaluate(images, tmp_path, surface=False)
    columns = ["image", "member", "crops", "label", "rank", "top5", "top5_probability", "scores"]
    assert without.predictions().columns.tolist() == columns
    pd.testing.assert_frame_equal(without.predictions(), results.predictions(columns))
    tables = [(each.folder / "table3.csv").read_bytes() for each in (results, without)]
    assert tables[0] == tables[1]
    with pytest.raises(InputError, match=r"kept no ranks for other numbers .* evaluate with `surface=True`"):
        without.crop_study()


@pytest.mark.slow
def test_a_run_that_was_interrupted_keeps_the_same_ranks(
    results: ee.Results, images: Images, tmp_path: Path
) -> None:
    class StopError(Exception):
        pass

    def stop(_: object) -> None:
        raise StopError

    for _ in images[:-1]:
        with pytest.raises(StopError):
            evaluate(images, tmp_path, progress=stop, save_every=0)
    again, study = evaluate(images, tmp_path).crop_study(), results.crop_study()
    for name in ("surface_ranks", "group_ranks", "rule_ranks"):
        np.testing.assert_array_equal(getattr(again, name), getattr(study, name))


def test_a_folder_begun_without_it_is_refused(images: Images, tmp_path: Path) -> None:
    evaluate(images, tmp_path, crops=1, surface=False, batch_size=6)
    with pytest.raises(InputError, match="belongs to another run \\(surface false, now true\\)"):
        evaluate(images, tmp_path, crops=1, batch_size=6)


def test_a_decided_run_cannot_have_it(cli: Cli, images: Images, dataset: Path, ensemble_file: Path) -> None:
    with pytest.raises(InputError, match="`surface` needs every pass, and `until_decided` leaves some out"):
        evaluate(images, Path("nowhere"), until_decided=True)
    finished = cli("run", dataset, "--ensemble", ensemble_file, "--surface", "--until-decided")
    assert (finished.code, "--surface needs every pass, and --until-decided" in finished.err) == (2, True)


@pytest.fixture(name="ensemble_file")
def _ensemble_file(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue("ensemble")
    return path


@pytest.mark.slow
def test_two_ranks_keep_the_same_ranks(
    cli: Cli, dataset: Path, ensemble_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for world in (1, 2):
        out = tmp_path / f"{world}"
        for rank in reversed(range(world)):
            for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world}.items():
                monkeypatch.setenv(name, str(value))
            words = ["run", dataset, "--ensemble", ensemble_file, "--crops", "10", "--out", out, "--surface"]
            assert cli(*words, "--device", "cpu").code == 0
        found.append(ee.read_results(out).crop_study())
    for name in ("surface_ranks", "group_ranks", "rule_ranks"):
        np.testing.assert_array_equal(getattr(found[0], name), getattr(found[1], name))


def study_of(wrong: Sequence[Sequence[int]]) -> CropStudy:
    """A study of one member whose ranks are 9 where it is wrong, [images, crops]."""
    surface = 9 * np.array(wrong, np.uint16)[:, None, :]
    images, _, crops = surface.shape
    nothing = np.zeros((images, 1, 0, 2), np.uint16)
    return CropStudy(("a",), ("a",), (1, crops), (), surface, nothing, nothing)


def test_the_surface_counts_images_and_has_wilsons_interval(results: ee.Results) -> None:
    study = results.crop_study()
    frame = study.surface(top=1)
    assert frame[["models", "crops"]].values.tolist() == [[m, c] for m in (1, 2, 3) for c in range(1, 145)]
    row = frame.query("models == 2 and crops == 17").iloc[0]
    wrong = sum(int(rank >= 1) for rank in study.surface_ranks[:, 1, 16])
    assert (row["cost"], row["images"], row["wrong"]) == (34, len(results.images), wrong)
    interval = error_interval_percent(wrong, len(results.images))
    assert (row["low_percent"], row["high_percent"]) == interval
    assert row["error_percent"] == pytest.approx(100 * wrong / len(results.images))


def test_enough_crops_come_after_the_last_that_a_larger_number_beats() -> None:
    rng = np.random.default_rng(0)
    first = rng.random(400) < 0.5
    better = first & (rng.random(400) < 0.5)
    wrong = np.stack([first, first, better, better, better], axis=1).astype(int)
    enough = study_of(wrong.tolist()).enough_crops()
    assert enough.crops == 3
    assert (enough.difference_points, enough.error_percent) == (0, 100 * better.mean())
    low, high = score_interval(np.array(0), np.array(0), 400)
    assert (enough.low_points, enough.high_points) == pytest.approx((100 * float(low), 100 * float(high)))
    assert study_of(np.repeat(first[:, None], 5, axis=1).astype(int).tolist()).enough_crops().crops == 1


def test_the_sentence_says_after_how_many_crops_more_of_them_do_not_help() -> None:
    """Ten images, of which the first crop has three wrong and all crops two: no interval is below 0."""
    study = study_of([[1, 1, 1]] * 2 + [[1, 1, 0]] + [[0, 0, 0]] * 7)
    found = study.enough_crops()
    assert (found.crops, found.error_percent, found.difference_points) == pytest.approx((1, 30, -10))
    assert (found.low_points, found.high_points) == pytest.approx((-40.42, 20.53), abs=0.01)
    # Forty images that only the last of three crops has right.
    last = study_of([[1, 1, 0]] * 40)
    assert last.enough_crops().crops == 3


def test_views_are_compared_with_all_crops_image_by_image(results: ee.Results) -> None:
    study = results.crop_study()
    frame = study.views(top=1)
    assert frame["kind"].value_counts().to_dict() == {"position": 6, "scale": 4, "square": 3, "mirror": 2}
    place = frame.index[frame["name"] == "whole"][0]
    without, whole = study.group_ranks[:, -1, place, 1] >= 1, study.surface_ranks[:, -1, -1] >= 1
    (found,) = paired_differences(np.stack([whole, without]), [(0, 1)])
    row = frame.loc[place]
    assert (row["without_points"], row["low_points"], row["high_points"]) == pytest.approx(
        (found.difference_points, found.low_points, found.high_points)
    )
    assert row["wrong_alone"] == (study.group_ranks[:, -1, place, 0] >= 1).sum()


def test_the_first_crop_alone_is_an_average_of_several_models_with_several_crops() -> None:
    ranks = np.zeros((4, 3, len(RULES), 2), np.uint16)
    # With one crop the mean of softmax outputs has the first image wrong, with ten none.
    ranks[0, 2, 0, 0] = 9
    nothing = np.zeros((4, 3, 0, 2), np.uint16)
    study = CropStudy(
        ("a", "b"), ("a", "b", "ensemble"), (1, 10), (), np.zeros((4, 2, 10), np.uint16), nothing, ranks
    )
    name = "mean over models, first crop only"
    assert study.averaging().set_index("rule").loc[name, "wrong"] == 1
    for arguments in ({"crops": 1}, {"row": "a"}, {"row": "b"}):
        assert name not in set(study.averaging(**arguments)["rule"])


def test_averages_are_compared_with_the_papers(results: ee.Results) -> None:
    frame = results.crop_study().averaging(top=1).set_index("rule")
    assert frame.index[0] == "softmax mean"
    assert len(frame) == 7
    logit, geometric = frame.loc["logit mean"], frame.loc["geometric mean"]
    assert logit["wrong"] == geometric["wrong"]
    table = results.table3().query("models == 3")
    assert frame.loc["softmax mean", "wrong"] == table.query("crops == 144")["top1_wrong"].item()
    assert (
        frame.loc["mean over models, first crop only", "wrong"] == table.query("crops == 1")["top1_wrong"].item()
    )
    wrong, fixed, broken = (frame[name].to_dict() for name in ("wrong", "fixed", "broken"))
    assert wrong["majority vote"] - wrong["softmax mean"] == broken["majority vote"] - fixed["majority vote"]
    one = results.crop_study().averaging(top=1, row="m1", crops=10)
    assert "mean over models, first crop only" not in set(one["rule"])
    for arguments, words in (({"crops": 3}, "`crops` is one of 1, 10, 144"), ({"row": "x"}, "`row` is one of m0")):
        with pytest.raises(InputError, match=words):
            results.crop_study().averaging(**arguments)
    with pytest.raises(InputError, match="`top` is at least 1, not 0"):
        results.crop_study().surface(top=0)
