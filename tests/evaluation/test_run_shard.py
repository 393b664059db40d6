"""Whole runs on tiny networks: interrupted or not, the results are the same bytes."""

import dataclasses
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from builders import CLASS_NAMES, ShardRun, opened, started, write_dataset, write_ensemble

from ensemble_eval.engine.full_scores import ImageScores
from ensemble_eval.errors import EnsembleEvalError, InputError
from ensemble_eval.evaluation.finishing import Outcome
from ensemble_eval.evaluation.job import results_of
from ensemble_eval.settings import RunSettings
from ensemble_eval.store.store import Store

SIZES = ((101, 67), (64, 64), (60, 90), (90, 60), (70, 70), (67, 101))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> RunSettings:
    folder = tmp_path_factory.mktemp("evaluation")
    manifest = write_ensemble(folder / "ensemble", members=2)
    dataset = write_dataset(folder / "val", SIZES)
    return RunSettings(
        dataset=dataset,
        ensemble=manifest,
        out=folder / "unused",
        crops=10,
        batch_size=8,
        device="cpu",
        backend="torch",
    )


def evaluate(settings: RunSettings, images: int | None = None) -> Outcome | None:
    """Run to the end, or leave after some images as an interruption would."""
    run = started(settings)
    steps = run.evaluate()
    for step in steps:
        if step.images_done == images:
            steps.close()
            return None
    return run.finish()


def into(settings: RunSettings, out: Path, **changes: Any) -> RunSettings:
    return dataclasses.replace(settings, out=out, **changes)


def predictions(out: Path) -> str:
    frame = pd.read_parquet(out / "predictions").sort_values(["image", "member", "crops"], ignore_index=True)
    text: str = frame.to_json(double_precision=15)
    return text


def test_a_run_says_everything_once(settings: RunSettings, tmp_path: Path) -> None:
    outcome = evaluate(into(settings, tmp_path))
    assert outcome is not None
    assert [(row.models, row.crops, row.images) for row in outcome.rows] == [
        (models, crops, len(SIZES)) for models in (1, 2) for crops in (1, 10)
    ]
    frame = pd.read_parquet(tmp_path / "predictions")
    # Two members and their mean, two schemes.
    assert len(frame) == len(frame.drop_duplicates(["image", "member", "crops"])) == len(SIZES) * 3 * 2
    assert set(frame["member"]) == {"a", "b", "ensemble"}
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["images"], record["passes"]) == (len(SIZES), len(SIZES) * 10 * 2)
    assert record["one_model_member"] == outcome.one_model_member


def test_the_ensembles_scores_are_the_mean_of_its_members(settings: RunSettings, tmp_path: Path) -> None:
    evaluate(into(settings, tmp_path))
    frame = pd.read_parquet(tmp_path / "predictions")
    for _, rows in frame.groupby(["image", "crops"]):
        scores = dict(zip(rows["member"], rows["scores"], strict=True))
        assert scores["ensemble"] == pytest.approx((scores["a"] + scores["b"]) / 2, abs=1e-7)
        assert scores["ensemble"].sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("images", [1, 3, 5])
def test_an_interrupted_run_ends_with_the_same_bytes(settings: RunSettings, tmp_path: Path, images: int) -> None:
    whole, pieces = into(settings, tmp_path / "whole"), into(settings, tmp_path / "pieces")
    evaluate(whole)
    assert evaluate(pieces, images) is None
    assert not (pieces.out / "table3.csv").exists()
    outcome = evaluate(pieces)
    assert outcome is not None
    assert (pieces.out / "table3.csv").read_bytes() == (whole.out / "table3.csv").read_bytes()
    assert predictions(pieces.out) == predictions(whole.out)
    records = [json.loads((s.out / "run.json").read_text()) for s in (whole, pieces)]
    assert records[0]["images"] == records[1]["images"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_what_the_caller_raises_keeps_what_is_finished(
    settings: RunSettings, tmp_path: Path, error: type[BaseException]
) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def leave_at_the_third(run: ShardRun) -> None:
        for step in run.evaluate():
            assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
            if step.images_done == 3:
                raise error

    with pytest.raises(error):
        leave_at_the_third(started(into(settings, tmp_path)))
    again = started(into(settings, tmp_path))
    assert len(again.folder.progress.done) == 3
    assert [str(step) for step in again.evaluate()] == [
        f"{done}/6 images, {20 * (done - 3)} passes" for done in (4, 5, 6)
    ]
    again.finish()


def test_scores_of_chosen_images_need_no_folder(settings: RunSettings, tmp_path: Path) -> None:
    evaluate(into(settings, tmp_path))
    stored = pd.read_parquet(tmp_path / "predictions").set_index(["image", "member", "crops"])["scores"]
    inputs = opened(into(settings, tmp_path / "nowhere"))
    results = list(results_of(settings, inputs, [4, 1]))
    assert [result.id for result in results] == [inputs.dataset.items[position].id for position in (4, 1)]
    for result in results:
        assert isinstance(result, ImageScores)
        for crops, scores in result.mean_softmax.items():
            assert np.array_equal(scores[0].astype(np.float32), stored[result.id, "a", crops])
    assert not (tmp_path / "nowhere").exists()


def test_a_finished_run_is_not_run_again(settings: RunSettings, tmp_path: Path) -> None:
    evaluate(into(settings, tmp_path))
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "predictions").iterdir()}
    assert list(started(into(settings, tmp_path)).evaluate()) == []
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "predictions").iterdir()} == before


def test_an_unfinished_run_writes_no_table(settings: RunSettings, tmp_path: Path) -> None:
    evaluate(into(settings, tmp_path), images=2)
    with pytest.raises(EnsembleEvalError, match=r"are not evaluated yet .* run the same command again"):
        started(into(settings, tmp_path)).finish()
    assert not (tmp_path / "table3.csv").exists()


@pytest.mark.parametrize("spoil", [lambda table: pa.concat_tables([table, table[:1]]), lambda table: table[1:]])
def test_predictions_that_are_there_twice_or_not_at_all_give_no_table(
    settings: RunSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[pa.Table], pa.Table],
) -> None:
    """Whatever went wrong before: the last check stands between it and the table."""
    tables = Store.tables
    monkeypatch.setattr(Store, "tables", lambda store, columns: map(spoil, tables(store, columns)))
    with pytest.raises(EnsembleEvalError, match="do not hold each of 6 images exactly once"):
        evaluate(into(settings, tmp_path))
    assert not (tmp_path / "table3.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"crops": 1}, {"precision": "bfloat16"}, {"models": 1}])
def test_another_runs_folder_is_refused_and_left_alone(
    settings: RunSettings, tmp_path: Path, change: dict[str, object]
) -> None:
    evaluate(into(settings, tmp_path))
    table = (tmp_path / "table3.csv").read_bytes()
    other = into(settings, tmp_path, **change)
    with pytest.raises(InputError, match=r"another run.*choose another `out`"):
        started(other)
    assert (tmp_path / "table3.csv").read_bytes() == table


def test_a_fresh_run_replaces_what_another_left(settings: RunSettings, tmp_path: Path) -> None:
    evaluate(into(settings, tmp_path))
    outcome = evaluate(into(settings, tmp_path, crops=1, fresh=True))
    assert outcome is not None
    assert [row.crops for row in outcome.rows] == [1, 1]
    assert set(pd.read_parquet(tmp_path / "predictions")["crops"]) == {1}


@pytest.mark.slow
def test_another_batch_size_gives_the_same_table(settings: RunSettings, tmp_path: Path) -> None:
    evaluate(into(settings, tmp_path / "8"))
    evaluate(into(settings, tmp_path / "13", batch_size=13))
    assert (tmp_path / "8/table3.csv").read_bytes() == (tmp_path / "13/table3.csv").read_bytes()


def test_a_changed_label_is_another_run(settings: RunSettings, tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "val", SIZES)
    mine = into(settings, tmp_path / "out", dataset=root)
    evaluate(mine, images=3)
    (root / CLASS_NAMES[0] / "00.png").rename(root / CLASS_NAMES[1] / "00.png")
    with pytest.raises(InputError, match=r"run \(dataset: 1 added \(bee/00.png\), 1 gone \(ant/00.png\)\)"):
        started(mine)
