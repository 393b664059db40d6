"""Keys of runs: what they say of each other, and those that were stored before they had a device type."""

import io
import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from builders import execution, member_key, run_key, started

from ensemble_eval.errors import InputError
from ensemble_eval.files import write_atomically
from ensemble_eval.results import run_record
from ensemble_eval.results.encoding import encode
from ensemble_eval.results.key import RunKey
from ensemble_eval.results.merging import merge
from ensemble_eval.results.parts import PREDICTIONS_FOLDER, Part, part_name, part_paths, read_parts
from ensemble_eval.results.store import Store
from ensemble_eval.settings import RunSettings

KEY = run_key()


def part(*images: str, device: str | None = "cpu", unreadable: Mapping[str, str] | None = None) -> Part:
    rows = [
        {"image": image, "member": "a", "crops": 1, "label": 0, "rank": 0, "top5": [0], "top5_probability": [1.0]}
        for image in images
    ]
    executions = [execution(device=device)] if device else []
    return Part(rows, list(images), dict(unreadable or {}), executions=executions)


def without_device_type(key: RunKey) -> dict[str, Any]:
    return {name: value for name, value in key.to_json().items() if name != "device_type"}


def as_before(data: bytes) -> bytes:
    """A part's bytes as the version before keys had a device type would have written them."""
    table = pq.read_table(io.BytesIO(data))
    description = json.loads(table.schema.metadata[b"ensemble_eval"])
    del description["key"]["device_type"]
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({b"ensemble_eval": json.dumps(description)}), buffer)
    return buffer.getvalue()


def put_as_before(out: Path, written: Part) -> None:
    data = as_before(encode(written, KEY))
    write_atomically(out / PREDICTIONS_FOLDER / part_name(data), data)


def test_a_key_comes_back_from_json_as_it_was() -> None:
    key = run_key(until_decided=("top-5", "top-1"), members=(member_key("a"), member_key("b", "w2")))
    assert RunKey.from_json(json.loads(json.dumps(key.to_json()))) == key


def test_the_json_is_flat_so_that_each_difference_has_a_name() -> None:
    member = {"weights": "w1", "arch": "googlenet", "options": {}, "input": {}}
    assert KEY.to_json() == {
        "crops": 1,
        "precision": "float32",
        "backend": "torch",
        "device_type": "cpu",
        "scores": False,
        "until_decided": [],
        "interpolation": "bilinear",
        "classes": 7,
        "dataset": "1234",
        "images": 4,
        "members": ["a"],
        "surface": False,
        "member a": member,
    }


def test_a_difference_names_what_differs_before_and_now() -> None:
    assert KEY.difference(KEY) == ""
    assert (
        KEY.difference(replace(KEY, crops=10, device_type="cuda"))
        == 'crops 1, now 10; device_type "cpu", now "cuda"'
    )


def test_runs_on_two_types_of_device_are_two_runs(tmp_path: Path) -> None:
    Store(tmp_path, KEY).write(part("a"))
    with pytest.raises(InputError, match=r'belongs to another run \(device_type "cpu", now "cuda"\)'):
        Store(tmp_path, replace(KEY, device_type="cuda")).open()


@pytest.mark.parametrize(("device", "device_type"), [("cpu", "cpu"), ("cuda:1", "cuda")])
def test_a_part_from_before_keys_had_a_device_type_has_that_of_what_ran_it(
    tmp_path: Path, device: str, device_type: str
) -> None:
    put_as_before(tmp_path, part("a", device=device))
    assert read_parts(tmp_path).key == replace(KEY, device_type=device_type)
    assert Store(tmp_path, replace(KEY, device_type=device_type)).open().done == {"a"}
    other = "cuda" if device_type == "cpu" else "cpu"
    with pytest.raises(InputError, match=f'device_type "{device_type}", now "{other}"'):
        Store(tmp_path, replace(KEY, device_type=other)).open()


def test_a_part_without_scores_goes_with_those_of_any_device(tmp_path: Path) -> None:
    """Unreadable images have no execution, so an old part of nothing else does not tell its device."""
    put_as_before(tmp_path, part(device=None, unreadable={"d": "damaged"}))
    assert Store(tmp_path, KEY).open().unreadable == {"d": "damaged"}
    put_as_before(tmp_path, part("a", "b"))
    assert read_parts(tmp_path).key == KEY
    assert Store(tmp_path, KEY).open().accounted == {"a", "b", "d"}


def test_old_parts_of_two_types_of_device_are_refused(tmp_path: Path) -> None:
    put_as_before(tmp_path, part("a"))
    put_as_before(tmp_path, part("b", device="cuda:0"))
    with pytest.raises(InputError, match=r"holds parts of several runs \(device_type "):
        read_parts(tmp_path)
    with pytest.raises(InputError, match=r'device_type "cuda", now "cpu".*choose another `out`'):
        Store(tmp_path, KEY).open()


def test_an_old_part_with_scores_of_an_unknown_device_is_read_but_not_continued(tmp_path: Path) -> None:
    put_as_before(tmp_path, part("a", device=None))
    assert read_parts(tmp_path).key == replace(KEY, device_type=None)
    with pytest.raises(InputError, match='device_type null, now "cpu"'):
        Store(tmp_path, KEY).open()


def old_record(*devices: str) -> dict[str, Any]:
    return {"key": without_device_type(KEY), "executions": [vars(execution(device=device)) for device in devices]}


def test_an_old_record_has_the_device_type_of_its_executions(tmp_path: Path) -> None:
    path = tmp_path / run_record.RECORD_FILE
    path.write_text(json.dumps(old_record("cpu", "cpu")))
    run_record.refuse_foreign(tmp_path, KEY)
    with pytest.raises(InputError, match='device_type "cpu", now "cuda"'):
        run_record.refuse_foreign(tmp_path, replace(KEY, device_type="cuda"))
    path.write_text(json.dumps(old_record("cuda:0", "cpu")))
    with pytest.raises(InputError, match=r'device_type "cpu and cuda", now "cpu".*`fresh=True`'):
        run_record.refuse_foreign(tmp_path, KEY)


def test_old_parts_and_new_ones_of_one_run_are_merged(tmp_path: Path) -> None:
    put_as_before(tmp_path / "old", part("a", "b"))
    Store(tmp_path / "new", KEY).write(part("c"))
    merged = merge([tmp_path / "old", tmp_path / "new"], tmp_path / "out")
    assert merged.progress.done == {"a", "b", "c"}


@pytest.mark.parametrize("finished", [False, True], ids=["interrupted", "finished"])
def test_a_run_goes_on_in_a_folder_that_an_earlier_version_wrote(
    ensemble: Path, dataset: Path, tmp_path: Path, finished: bool
) -> None:
    settings = RunSettings(
        dataset=dataset, ensemble=ensemble, out=tmp_path, crops=1, device="cpu", backend="torch", batch_size=4
    )
    first = started(settings)
    steps = list(itertools.islice(first.evaluate(), None if finished else 4))
    if finished:
        first.folder.finish()
        record = json.loads((tmp_path / run_record.RECORD_FILE).read_text())
        del record["key"]["device_type"]
        (tmp_path / run_record.RECORD_FILE).write_text(json.dumps(record))
    for path in part_paths(tmp_path):
        data = as_before(path.read_bytes())
        path.unlink()
        path.with_name(part_name(data)).write_bytes(data)
    table = (tmp_path / run_record.TABLE_FILE).read_bytes() if finished else None

    second = started(settings)
    assert len(second.folder.progress.done) == len(steps)
    assert len(list(second.evaluate())) == 6 - len(steps)
    second.folder.finish()
    expected = started(replace(settings, out=tmp_path / "whole"))
    for _ in expected.evaluate():
        pass
    expected.folder.finish()
    assert (tmp_path / run_record.TABLE_FILE).read_bytes() == (
        expected.folder.out / run_record.TABLE_FILE
    ).read_bytes()
    assert table in (None, (tmp_path / run_record.TABLE_FILE).read_bytes())
    assert json.loads((tmp_path / run_record.RECORD_FILE).read_text())["key"]["device_type"] == "cpu"
