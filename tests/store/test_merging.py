"""Results of one run from folders that never met, brought together by `ensemble-eval merge`."""

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from builders import ShardRun, opened, started, write_dataset, write_ensemble
from conftest import Cli
from outcome import outcome_bytes

from ensemble_eval.evaluation.opening import Inputs
from ensemble_eval.jobs.process import Process, Role
from ensemble_eval.settings import RunSettings

pytestmark = pytest.mark.slow

IMAGES = 9
WORLD = 3


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> RunSettings:
    folder = tmp_path_factory.mktemp("merging")
    sizes = [(40 + image % 3, 40) for image in range(IMAGES)]
    return RunSettings(
        dataset=write_dataset(folder / "val", sizes),
        ensemble=write_ensemble(folder / "ensemble", members=2),
        crops=10,
        batch_size=8,
        device="cpu",
        backend="torch",
    )


@pytest.fixture(scope="module")
def inputs(settings: RunSettings) -> Inputs:
    return opened(settings)


@pytest.fixture(scope="module")
def whole(settings: RunSettings, inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run that had all images; read only."""
    run = started(replace(settings, out=tmp_path_factory.mktemp("whole")), inputs)
    exhaust(run)
    run.finish()
    return run.folder.out


@pytest.fixture(scope="module")
def expected(whole: Path) -> tuple[bytes, str]:
    """What every merged folder holds in the end."""
    return outcome_bytes(whole)


@pytest.fixture(scope="module")
def thirds(settings: RunSettings, inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three folders, each with the results of a third of the images; read only."""
    folder = tmp_path_factory.mktemp("thirds")
    return [evaluate(settings, inputs, folder / str(rank), [rank]) for rank in range(WORLD)]


def evaluate(settings: RunSettings, inputs: Inputs, out: Path, ranks: Sequence[int]) -> Path:
    """Do the work of some ranks of a run that has more, and write no table."""
    for rank in ranks:
        process = Process(rank, WORLD, session="merging", role=Role.RANK)
        exhaust(started(replace(settings, out=out), inputs, process))
    return out


def exhaust(run: ShardRun) -> None:
    for _ in run.evaluate():
        pass


def only_part(out: Path) -> Path:
    [part] = (out / "predictions").glob("part-*")
    return part


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_parts_of_a_run_give_the_bytes_of_the_whole(
    cli: Cli, thirds: list[Path], expected: tuple[bytes, str], tmp_path: Path
) -> None:
    before = [files(folder) for folder in thirds]
    merged = cli("merge", *thirds, "--out", tmp_path / "out")
    assert merged.code == 0
    assert f"Errors on {IMAGES} images" in merged.out
    assert outcome_bytes(tmp_path / "out") == expected
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["images"], record["passes"]) == (IMAGES, IMAGES * 10 * 2)
    assert record["merged"] == [str(folder) for folder in thirds]
    assert [execution["ranks"] for execution in record["executions"]] == [WORLD]
    assert [files(folder) for folder in thirds] == before


# Of `run.json`, what no part tells, and what is not the same in two runs.
OF_THE_START = ("arguments", "manifest_sha256", "ignored_files", "layout")
VARYING = ("seconds", "executions")


def record_of(out: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((out / "run.json").read_text())
    return record


def test_unfinished_runs_leave_the_record_of_a_run_but_for_what_no_part_tells(
    cli: Cli, inputs: Inputs, thirds: list[Path], whole: Path, tmp_path: Path
) -> None:
    assert cli("merge", *thirds, "--out", tmp_path).code == 0
    record, expected = record_of(tmp_path), record_of(whole)
    assert record.pop("merged") == [str(folder) for folder in thirds]
    assert list(record) == list(expected)
    assert [record[name] for name in OF_THE_START] == [None] * len(OF_THE_START)
    assert all(expected[name] is not None for name in OF_THE_START)
    for name in record.keys() - {*OF_THE_START, *VARYING}:
        assert record[name] == expected[name], name
    assert (record["precision"], record["backend"]) == ("float32", "torch")
    assert record["weights_sha256"] == inputs.weights_sha256
    assert record["dataset_sha256"] == inputs.dataset.sha256


def test_what_no_part_tells_comes_from_the_first_folder_that_is_finished(
    cli: Cli, settings: RunSettings, inputs: Inputs, thirds: list[Path], whole: Path, tmp_path: Path
) -> None:
    merged = Path(shutil.copytree(thirds[0], tmp_path / "merged"))
    other = started(replace(settings, out=tmp_path / "other", workers=1), inputs)
    exhaust(other)
    other.finish()
    # One that was merged from unfinished runs has a record, but does not know either.
    assert cli("merge", merged, *thirds[1:], "--out", merged).code == 0
    assert cli("merge", merged, whole, other.folder.out, "--out", tmp_path / "out").code == 0
    record, expected = record_of(tmp_path / "out"), record_of(whole)
    assert {name: record[name] for name in OF_THE_START} == {name: expected[name] for name in OF_THE_START}


def test_merging_into_a_finished_folder_keeps_its_arguments(
    cli: Cli, settings: RunSettings, inputs: Inputs, thirds: list[Path], whole: Path, tmp_path: Path
) -> None:
    out = started(replace(settings, out=tmp_path / "out", workers=1), inputs)
    exhaust(out)
    out.finish()
    before = record_of(tmp_path / "out")
    assert before["arguments"] != record_of(whole)["arguments"]
    assert cli("merge", whole, thirds[0], "--out", tmp_path / "out").code == 0
    after = record_of(tmp_path / "out")
    assert {name: after[name] for name in OF_THE_START} == {name: before[name] for name in OF_THE_START}
    assert after["merged"] == [str(whole), str(thirds[0])]


def test_a_record_that_is_spoilt_or_another_runs_is_refused(
    cli: Cli, thirds: list[Path], whole: Path, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(whole, tmp_path / "source"))
    record = record_of(whole)
    (source / "run.json").write_text(json.dumps(record | {"key": record["key"] | {"crops": 1}}))
    refused = cli("merge", *thirds, source, "--out", tmp_path / "out")
    assert refused.code == 2
    assert refused.err == (
        f"error: {source} has a run.json and parts of different runs (crops 1, now 10); "
        "it was not written by this tool alone\n"
    )
    (source / "run.json").write_text("{")
    refused = cli("merge", *thirds, source, "--out", tmp_path / "out")
    assert refused.code == 2
    assert refused.err == (
        f"error: {source / 'run.json'} is not readable, or an earlier version of ensemble-eval wrote it; "
        "remove it and table3.csv, which the parts give again, or choose another folder\n"
    )
    assert not (tmp_path / "out").exists()
    for name in ("run.json", "table3.csv"):
        (source / name).unlink()
    assert cli("merge", *thirds, source, "--out", tmp_path / "out").code == 0


def test_folders_that_overlap_count_each_image_once(
    cli: Cli,
    settings: RunSettings,
    inputs: Inputs,
    thirds: list[Path],
    expected: tuple[bytes, str],
    tmp_path: Path,
) -> None:
    overlapping = evaluate(settings, inputs, tmp_path / "overlapping", [1, 2])
    assert cli("merge", thirds[0], thirds[1], overlapping, "--out", tmp_path / "out").code == 0
    # outcome_bytes refuses rows that stand twice.
    assert outcome_bytes(tmp_path / "out") == expected


def test_a_folder_given_twice_and_again_later_changes_nothing(
    cli: Cli, thirds: list[Path], expected: tuple[bytes, str], tmp_path: Path
) -> None:
    for folders in (thirds[:1] * 2, thirds, thirds):
        merged = cli("merge", *folders, "--out", tmp_path)
    assert merged.code == 0
    assert outcome_bytes(tmp_path) == expected


def test_the_results_may_go_to_one_of_the_folders(
    cli: Cli, thirds: list[Path], expected: tuple[bytes, str], tmp_path: Path
) -> None:
    out = Path(shutil.copytree(thirds[0], tmp_path / "out"))
    assert cli("merge", out, *thirds[1:], "--out", out).code == 0
    assert outcome_bytes(out) == expected


def test_missing_images_are_said_no_table_is_written_and_run_does_the_rest(
    cli: Cli, settings: RunSettings, thirds: list[Path], expected: tuple[bytes, str], tmp_path: Path
) -> None:
    merged = cli("merge", *thirds[1:], "--out", tmp_path)
    assert merged.code == 2
    assert merged.err == (
        f"error: 3 of {IMAGES} images are missing, so no table is written; "
        f"run the same command with --out {tmp_path} to do them\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["predictions"]
    finished = cli(
        *("run", settings.dataset, "--ensemble", settings.ensemble, "--out", tmp_path),
        *("--crops", "10", "--batch-size", "8", "--device", "cpu"),
    )
    assert finished.code == 0
    assert "continuing: 6 images were done before" in finished.err
    assert outcome_bytes(tmp_path) == expected


def test_different_runs_are_refused_with_the_difference(
    cli: Cli, settings: RunSettings, thirds: list[Path], tmp_path: Path
) -> None:
    other = replace(settings, crops=1)
    evaluate(other, opened(other), tmp_path / "other", [1])
    refused = cli("merge", thirds[0], tmp_path / "other", "--out", tmp_path / "out")
    assert refused.code == 2
    assert refused.err == (
        f"error: {tmp_path / 'other'} and {thirds[0]} differ in their runs (crops 10, now 1); "
        "merge the folders of one run only\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("finished", [False, True], ids=["parts", "tables"])
def test_results_of_another_run_in_out_are_refused_and_left_alone(
    cli: Cli, settings: RunSettings, thirds: list[Path], tmp_path: Path, finished: bool
) -> None:
    other = replace(settings, crops=1, out=tmp_path)
    run = started(other)
    exhaust(run)
    if finished:
        run.finish()
    before = files(tmp_path)
    refused = cli("merge", *thirds, "--out", tmp_path)
    assert refused.code == 2
    assert f"{tmp_path} belongs to another run (crops 1, now 10)" in refused.err
    assert files(tmp_path) == before


def test_a_table_of_somebody_else_in_out_is_not_overwritten(cli: Cli, thirds: list[Path], tmp_path: Path) -> None:
    (tmp_path / "table3.csv").write_text("mine")
    refused = cli("merge", *thirds, "--out", tmp_path)
    assert refused.code == 2
    assert "choose another --out" in refused.err
    assert files(tmp_path) == {tmp_path / "table3.csv": b"mine"}


def test_a_damaged_part_is_named_and_not_counted(cli: Cli, thirds: list[Path], tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(thirds[2], tmp_path / "damaged"))
    part = only_part(damaged)
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    merged = cli("merge", *thirds[:2], damaged, "--out", tmp_path / "out")
    assert merged.code == 2
    assert f"warning: {part} had changed since it was written and is left out" in merged.err
    assert f"3 of {IMAGES} images are missing, so no table is written" in merged.err
    assert pd.read_parquet(tmp_path / "out" / "predictions")["image"].nunique() == 6
    assert not (tmp_path / "out" / "table3.csv").exists()

    refused = cli("merge", damaged, "--out", tmp_path / "nothing")
    assert refused.code == 2
    assert "none of the folders holds an undamaged part" in refused.err


@pytest.mark.parametrize("spelling", ["not given", "out", "link"])
def test_a_damaged_part_in_out_is_named_once_and_replaced_by_a_whole_one(
    cli: Cli, thirds: list[Path], expected: tuple[bytes, str], tmp_path: Path, spelling: str
) -> None:
    """Also where `out` is one of the folders, and not by the same name."""
    out = Path(shutil.copytree(thirds[0], tmp_path / "out"))
    (tmp_path / "link").symlink_to(out)
    evaluated = [] if spelling == "not given" else [tmp_path / spelling]
    part = only_part(out)
    part.write_bytes(part.read_bytes()[:-1])
    merged = cli("merge", *evaluated, *thirds, "--out", out)
    assert merged.code == 0
    assert merged.err == f"warning: {part} had changed since it was written and is left out\n"
    assert outcome_bytes(out) == expected


def test_a_folder_without_results_is_refused(cli: Cli, thirds: list[Path], tmp_path: Path) -> None:
    refused = cli("merge", thirds[0], tmp_path / "typo", "--out", tmp_path / "out")
    assert refused.code == 2
    assert refused.err == f"error: {tmp_path / 'typo'} holds no results; give the --out folders of runs\n"
    assert not (tmp_path / "out").exists()


def test_an_image_counts_as_unreadable_if_no_folder_has_it(
    cli: Cli, settings: RunSettings, tmp_path: Path
) -> None:
    root = write_dataset(tmp_path / "val", [(40, 40)] * 4)
    (root / "ant" / "lost.png").write_bytes(b"-" * 10)
    late = root / "bee" / "late.png"
    late.write_bytes(b"-" * len((root / "ant" / "00.png").read_bytes()))
    mine = replace(settings, dataset=root, crops=1)
    inputs = opened(mine)
    evaluate(mine, inputs, tmp_path / "a", range(WORLD))
    late.write_bytes((root / "ant" / "00.png").read_bytes())  # a drive came back
    evaluate(mine, inputs, tmp_path / "b", range(WORLD))
    merged = cli("merge", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "out")
    assert merged.code == 3
    with (tmp_path / "out" / "unreadable.csv").open(newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["image", "ant/lost.png"]
    assert set(pd.read_csv(tmp_path / "out" / "table3.csv")["images"]) == {5}
