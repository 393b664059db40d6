"""Results that are read back: what they say, and tables for any members and schemes."""

import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from builders import member_key, run_key, started, write_ensemble

from ensemble_eval.errors import EnsembleEvalError, InputError
from ensemble_eval.evaluation.key import RUN
from ensemble_eval.reports.api import read_results
from ensemble_eval.results.scores import Selection, computed_ranks
from ensemble_eval.settings import RunSettings
from ensemble_eval.store.parts import Part, part_paths
from ensemble_eval.store.store import Store

MEMBERS = ("a", "b", "c")
COLUMNS = ["image", "member", "crops", "label", "rank", "top5", "top5_probability", "scores"]


@pytest.fixture(scope="module")
def settings(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> RunSettings:
    ensemble = write_ensemble(tmp_path_factory.mktemp("three"), members=len(MEMBERS))
    return RunSettings(dataset=dataset, ensemble=ensemble, crops=10, device="cpu", backend="torch", batch_size=10)


def evaluate(settings: RunSettings, images: int | None = None) -> Path:
    """Run to the end, or leave after some images."""
    run = started(settings)
    for _ in itertools.islice(run.evaluate(), images):
        pass
    if images is None:
        run.finish()
    return settings.out


@pytest.fixture(scope="module")
def finished(settings: RunSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of three members and six images; read only."""
    return evaluate(replace(settings, out=tmp_path_factory.mktemp("finished")))


@pytest.fixture(scope="module")
def decided(settings: RunSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `finished`, of a run that stops each image when it is decided."""
    return evaluate(replace(settings, until_decided=True, out=tmp_path_factory.mktemp("decided")))


@pytest.fixture
def unfinished(settings: RunSettings, tmp_path: Path) -> Path:
    """Four of the six images, and no tables."""
    return evaluate(replace(settings, out=tmp_path / "unfinished"), images=4)


def table_file(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "table3.csv")


def numbers(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    return list(frame.itertuples(index=False, name=None))


@pytest.mark.slow
def test_reading_loads_no_torch(finished: Path) -> None:
    code = (
        "import sys; from ensemble_eval.reports.api import read_results; "
        f"table = read_results({str(finished)!r}).table3(models=[1, 2, 3]); "
        "assert len(table) == 6; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_results_say_what_a_finished_run_did(finished: Path) -> None:
    results = read_results(str(finished))
    assert (results.members, results.crops, results.missing, results.complete) == (MEMBERS, (1, 10), 0, True)
    assert len(results.images) == 6
    assert list(results.images) == sorted(results.images)
    assert results.unreadable == {}
    assert results.record is not None
    assert results.record["images"] == 6


def test_predictions_are_the_stored_rows_sorted_by_image(finished: Path) -> None:
    frame = read_results(finished).predictions()
    assert list(frame.columns) == COLUMNS
    expected = pd.read_parquet(finished / "predictions").sort_values("image", kind="stable", ignore_index=True)
    pd.testing.assert_frame_equal(frame, expected)
    assert list(read_results(finished).predictions(["rank"]).columns) == ["rank"]
    with pytest.raises(InputError, match="stores no column 'score'; there are image, member, crops"):
        read_results(finished).predictions(["score"])


def test_the_table_is_that_of_the_file_number_for_number(finished: Path, decided: Path) -> None:
    for out in (finished, decided):
        pd.testing.assert_frame_equal(read_results(out).table3(), table_file(out), check_exact=True)
        assert "partial" not in read_results(out).table3().attrs


def test_one_and_all_models_and_single_schemes_are_rows_of_the_file(finished: Path) -> None:
    results, file = read_results(finished), table_file(finished)
    for models, crops in itertools.product((1, 3), (1, 10)):
        expected = file[(file["models"] == models) & (file["crops"] == crops)].reset_index(drop=True)
        pd.testing.assert_frame_equal(results.table3(models, crops), expected)
    pd.testing.assert_frame_equal(results.table3([3, 1, 3], [10, 1]), file)


def test_rows_of_the_first_members_are_those_of_a_run_of_them(
    settings: RunSettings, finished: Path, tmp_path: Path
) -> None:
    two = table_file(evaluate(replace(settings, models=2, out=tmp_path)))
    table = read_results(finished).table3(models=[1, 2, 3])
    assert list(table["models"]) == [1, 1, 2, 2, 3, 3]
    counts = ["top5_wrong", "top1_wrong", "images", "top5_error", "top1_error"]
    assert numbers(table.loc[table["models"] == 2, counts]) == numbers(two.loc[two["models"] == 2, counts])
    errors = list(table["top5_error"])
    assert list(table["compared_to_base"]) == pytest.approx([error - errors[0] for error in errors], abs=1e-3)


def test_ranks_that_are_computed_are_those_that_are_stored(finished: Path) -> None:
    """Of the whole ensemble both are there."""
    results = read_results(finished)
    frame = results.predictions(["image", "member", "crops", "rank"])
    stored = frame[frame["member"] == "ensemble"].pivot(index="crops", columns="image", values="rank")
    [computed] = computed_ranks(results, [Selection(MEMBERS, "ensemble", by_name=True)])
    assert computed.tolist() == stored.to_numpy().tolist()


@pytest.mark.parametrize("subset", [("a", "c"), ("c", "b")])
def test_any_members_by_name_against_their_mean_by_hand(finished: Path, subset: tuple[str, ...]) -> None:
    results = read_results(finished)
    frame = results.predictions()
    table = results.table3(models=[subset, ["b"], ["c", "a", "b"]])
    assert list(table["members"]) == [("b",)] * 2 + [tuple(sorted(subset))] * 2 + [MEMBERS] * 2
    for crops, counted in zip((1, 10), table["top1_wrong"][2:4], strict=True):
        wrong = 0
        for _, rows in frame[(frame["crops"] == crops) & frame["member"].isin(subset)].groupby("image"):
            first, second = (np.asarray(scores, float) for scores in rows["scores"])
            wrong += int(np.argmax(first + second)) != rows["label"].iloc[0]
        assert counted == wrong
    file = table_file(finished)
    pd.testing.assert_frame_equal(
        table[4:].drop(columns="members").reset_index(drop=True), file[2:].reset_index(drop=True)
    )
    alone = frame[(frame["member"] == "b") & (frame["crops"] == 10)]
    assert table["top1_wrong"][1] == (alone["rank"] > 0).sum()


@pytest.mark.parametrize(
    ("models", "crops", "sentence"),
    [
        (0, None, "`models` is 1 to 3, or names of a, b, c; not 0"),
        (4, None, "`models` is 1 to 3"),
        (True, None, "`models` is 1 to 3"),
        ([], None, "`models` is empty"),
        ([["a", "z"]], None, "`models` names 'z', which is none of the members a, b, c"),
        ([["a", "a"]], None, "`models` names each member of a row once"),
        ([[]], None, "`models` names each member of a row once"),
        (["a", "b"], None, r"`models` has lists of names: \[\['a'\]\], not \['a'\]"),
        (None, 144, "`crops` is one or more of 1, 10, not 144"),
        (None, [], "`crops` is one or more of 1, 10"),
    ],
)
def test_what_is_not_there_is_refused(finished: Path, models: Any, crops: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_results(finished).table3(models, crops)


def test_a_run_without_scores_has_stored_rows_only_and_says_which_argument_keeps_them(
    settings: RunSettings, finished: Path, decided: Path, tmp_path: Path
) -> None:
    without = read_results(evaluate(replace(settings, store_scores=False, out=tmp_path)))
    pd.testing.assert_frame_equal(without.table3([1, 3]), table_file(finished))
    with pytest.raises(InputError, match=r"rows of a, b need the scores .* evaluate with `store_scores=True`"):
        without.table3(2)
    stopped = read_results(decided)
    assert list(stopped.table3(models=[[name] for name in MEMBERS])["models"]) == [1] * 6
    with pytest.raises(
        InputError, match=r"stops when decided stores none; .*`until_decided=True` .*`store_scores=True`"
    ):
        stopped.table3(2)
    assert list(stopped.predictions().columns) == [*COLUMNS[:4], "top5_correct", "top1_correct"]


def test_an_unfinished_run_says_what_is_missing_or_gives_what_there_is(unfinished: Path, finished: Path) -> None:
    results = read_results(unfinished)
    assert (results.complete, results.missing, len(results.images), results.record) == (False, 2, 4, None)
    assert results.missing_images == ("eel/04.png", "fox/05.png")
    sentence = (
        r"2 of 6 images in .* are not evaluated yet \(eel/04\.png, fox/05\.png\); run the same evaluation again"
    )
    with pytest.raises(InputError, match=sentence):
        results.table3()
    [listing] = (unfinished / "predictions").glob("_images-*")
    listing.unlink()
    assert results.missing_images is None
    with pytest.raises(InputError, match="are not evaluated yet; run the same evaluation again"):
        results.table3()
    table = results.table3(models=[1, 2, 3], partial=True)
    assert set(table["images"]) == {4}
    assert list(table["partial"]) == [True] * 6
    assert table.attrs["partial"] is True
    whole = read_results(finished).table3(partial=True)
    assert (list(whole["partial"]), whole.attrs["partial"]) == ([False] * 4, False)


def test_a_damaged_part_is_named_left_alone_and_its_images_are_missing(unfinished: Path) -> None:
    [path] = part_paths(unfinished / RUN.folder)
    path.with_name("part-" + 32 * "0" + ".parquet").write_bytes(path.read_bytes())
    results = read_results(unfinished)
    assert results.damaged == ("part-" + 32 * "0" + ".parquet",)
    assert (results.missing, len(part_paths(unfinished / RUN.folder))) == (2, 2)
    with pytest.raises(InputError, match=r"not evaluated yet \(eel/04\.png, fox/05\.png; 1 parts are damaged\)"):
        results.table3()
    path.unlink()
    with pytest.raises(InputError, match=r"all 1 parts in .* are damaged"):
        read_results(unfinished)
    with pytest.raises(EnsembleEvalError, match="another process has changed"):
        results.predictions()


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_a_folder_without_results_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no results"):
        read_results(tmp_path / folder)


def test_files_of_others_are_refused_by_name(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    Store(out, RUN, run_key()).write(Part(images=["a"]))
    pd.DataFrame({"x": [1]}).to_parquet(out / "predictions" / "mine.parquet")
    with pytest.raises(InputError, match=r"mine\.parquet was not written by this version of"):
        read_results(out)
    (out / "predictions" / "mine.parquet").unlink()
    (out / "run.json").write_text((finished / "run.json").read_text())
    with pytest.raises(InputError, match=r"has a run\.json and parts of different runs"):
        read_results(out)


def rows(images: str, rank: int) -> list[dict[str, Any]]:
    return [{"image": image, "member": "a", "crops": 1, "label": 0, "rank": rank} for image in images]


def test_an_image_that_two_parts_hold_counts_once_as_the_run_will_keep_it(tmp_path: Path) -> None:
    clock = itertools.count()
    store = Store(tmp_path, RUN, run_key(images=3), clock=lambda: next(clock))
    store.write(Part(rows("ab", 1), list("ab")))
    store.write(Part(rows("bc", 7), list("bc")))
    before = part_paths(tmp_path / RUN.folder)
    results = read_results(tmp_path)
    assert results.complete
    assert results.predictions(["image", "rank"]).to_dict("list") == {"image": ["a", "b", "c"], "rank": [1, 1, 7]}
    assert list(results.table3()["top5_wrong"]) == [1]
    assert part_paths(tmp_path / RUN.folder) == before


def test_a_run_that_could_read_no_image_has_no_table(tmp_path: Path) -> None:
    Store(tmp_path, RUN, run_key(images=1)).write(Part(unreadable={"a": "damaged"}))
    results = read_results(tmp_path)
    assert (results.complete, results.unreadable) == (True, {"a": "damaged"})
    with pytest.raises(InputError, match=r"no image in .* has predictions"):
        results.table3()


def test_a_name_of_a_member_that_looks_like_a_row_of_several_is_its_own(tmp_path: Path) -> None:
    key = run_key(images=1, scores=True, members=tuple(map(member_key, ("a", "b", "a, b"))))
    written = [
        {"image": "x", "member": name, "crops": 1, "label": 0, "rank": rank, "scores": scores}
        for name, rank, scores in [
            ("a", 0, [1, 0]),
            ("b", 0, [1, 0]),
            ("a, b", 1, [0, 1]),
            ("ensemble", 0, [1, 0]),
        ]
    ]
    Store(tmp_path, RUN, key).write(Part(written, ["x"]))
    table = read_results(tmp_path).table3(models=[["a, b"], ["a", "b"]])
    assert list(table["top1_wrong"]) == [1, 0]
