"""A job's output folder: what opening it reads or removes, what it refuses, and what closing it leaves."""

import json
import os
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
from builders import run_key

from ensemble_eval.datasets.items import Dataset
from ensemble_eval.errors import EnsembleEvalError, InputError
from ensemble_eval.evaluation.key import RUN, RunKey
from ensemble_eval.store import record
from ensemble_eval.store.folder import Folder
from ensemble_eval.store.key import OtherKeyError
from ensemble_eval.store.parts import Part, part_paths
from ensemble_eval.store.store import Store

LONG_AGO = time.time() - 86_400


def _dataset(*images: str, data: bytes = b"image") -> Dataset:
    return Dataset.of([(image, 0, data) for image in images])


def _folder(out: Path, dataset: Dataset) -> Folder[RunKey]:
    key = run_key(dataset=dataset.sha256, images=len(dataset.items)).stored()
    return Folder(Store(out, RUN, key), dataset)


def _written(out: Path, dataset: Dataset, images: list[str] | None = None) -> Folder[RunKey]:
    """A folder with a part, which another process has written since it was opened."""
    folder = _folder(out, dataset)
    folder.open(fresh=False)
    done = list(folder.images) if images is None else images
    Store(out, RUN, folder.store.key).write(Part(images=done))
    return folder


def _write_record(out: Path, key: RunKey) -> None:
    record.write(out, RUN, {"key": key.to_json()})
    (out / "table3.csv").write_text("models\n")


def test_opening_reads_what_is_done_and_keeps_a_list_of_the_images(tmp_path: Path) -> None:
    dataset = _dataset("a.png", "b.png")
    _written(tmp_path, dataset, ["a.png"])
    for checked in (False, True):
        folder = _folder(tmp_path, dataset)
        folder.open(fresh=False, checked=checked)
        assert folder.progress.done == {"a.png"}
        assert not folder.is_complete
    [listing] = folder.store.folder.glob("_images-*.csv")
    assert [line.split(",")[0] for line in listing.read_text().splitlines()] == ["image", "a.png", "b.png"]


def test_a_supervisors_worker_leaves_damaged_parts_to_the_supervisor(tmp_path: Path) -> None:
    dataset = _dataset("a.png")
    _written(tmp_path, dataset)
    [part] = part_paths(tmp_path / RUN.folder)
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    folder = _folder(tmp_path, dataset)
    folder.open(fresh=False, checked=True)
    assert part.exists()
    folder.open(fresh=False)
    assert not part.exists()
    assert folder.progress.damaged == (part.name,)


def test_a_fresh_start_removes_parts_record_and_tables(tmp_path: Path) -> None:
    dataset = _dataset("a.png")
    folder = _written(tmp_path, dataset)
    _write_record(tmp_path, folder.store.key)
    folder.open(fresh=True)
    assert folder.progress.done == frozenset()
    assert {path.name for path in tmp_path.iterdir()} == {RUN.folder}


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    folder = _folder(tmp_path / "out", _dataset("a.png"))
    for fresh in (False, True):
        with pytest.raises(InputError, match="is a file; choose a folder"):
            folder.open(fresh=fresh)


def test_the_tables_of_another_job_are_refused_and_those_of_the_same_are_not(tmp_path: Path) -> None:
    folder = _written(tmp_path, _dataset("a.png"))
    _write_record(tmp_path, folder.store.key)
    folder.refuse_foreign()
    _write_record(tmp_path, replace(folder.store.key, crops=10))
    with pytest.raises(OtherKeyError, match=r"belongs to another run \(crops 10, now 1\)") as refused:
        folder.refuse_foreign()
    assert refused.value.theirs == replace(folder.store.key, crops=10)


def test_a_table_without_a_record_is_refused_and_other_files_are_not(tmp_path: Path) -> None:
    folder = _folder(tmp_path, _dataset("a.png"))
    (tmp_path / "unreadable.csv").write_text("")
    folder.refuse_foreign()
    (tmp_path / "table3.csv").write_text("")
    with pytest.raises(InputError, match=r"holds a table3.csv without its run.json; choose another"):
        folder.refuse_foreign()


def test_of_a_data_set_that_changed_some_images_are_named(tmp_path: Path) -> None:
    _written(tmp_path, _dataset("a.png", "b.png"))
    changed = Dataset.of([("a.png", 0, b"image"), ("b.png", 0, b"another")])
    with pytest.raises(OtherKeyError, match=r"b\.png") as refused:
        _folder(tmp_path, changed).open(fresh=False)
    assert changed.sha256 not in str(refused.value)


def test_closing_refuses_missing_and_foreign_images_and_removes_what_killed_writers_left(tmp_path: Path) -> None:
    dataset = _dataset("a.png", "b.png")
    folder = _written(tmp_path, dataset, ["a.png"])
    with pytest.raises(EnsembleEvalError, match=r"1 of 2 images are not evaluated yet \(b\.png\)"):
        folder.close()
    Store(tmp_path, RUN, folder.store.key).write(Part(images=["b.png"]))
    left = [tmp_path / RUN.folder / ".part-1.parquet.x.tmp", tmp_path / ".table3.csv.x.tmp"]
    young = tmp_path / ".run.json.x.tmp"
    for path in (*left, young):
        path.write_text("")
    for path in left:
        os.utime(path, (LONG_AGO, LONG_AGO))
    assert folder.close().done == {"a.png", "b.png"}
    assert not any(path.exists() for path in left)
    assert young.exists()
    Store(tmp_path, RUN, folder.store.key).write(Part(images=["c.png"]))
    with pytest.raises(EnsembleEvalError, match="1 images in the results are not in the data set"):
        folder.close()


def test_a_record_names_the_versions_that_are_installed(tmp_path: Path) -> None:
    found = record.versions()
    assert found["torch"] == metadata.version("torch")
    record.write(tmp_path, RUN, {"key": run_key().to_json()})
    text = (tmp_path / "run.json").read_text()
    assert json.loads(text)["key"]["crops"] == 1
    assert text.startswith('{\n  "key": {\n    "')
    assert record.read(tmp_path, RUN) is not None
