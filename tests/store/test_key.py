"""Keys of runs: what they say of each other, and those of other versions."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from builders import execution, member_key, run_key

from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.key import RUN, RunKey
from ensemble_eval.files import write_atomically
from ensemble_eval.store import record
from ensemble_eval.store.parts import Part, encode, part_name
from ensemble_eval.store.store import Store

KEY = run_key()


def part(*images: str, device: str | None = "cpu", unreadable: Mapping[str, str] | None = None) -> Part:
    rows = [
        {"image": image, "member": "a", "crops": 1, "label": 0, "rank": 0, "top5": [0], "top5_probability": [1.0]}
        for image in images
    ]
    executions = [execution(device=device)] if device else []
    return Part(rows, list(images), dict(unreadable or {}), executions=executions)


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
    Store(tmp_path, RUN, KEY).write(part("a"))
    with pytest.raises(InputError, match=r'belongs to another run \(device_type "cpu", now "cuda"\)'):
        Store(tmp_path, RUN, replace(KEY, device_type="cuda")).open()


def test_a_part_of_a_version_whose_keys_were_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / RUN.folder / "old"
    write_atomically(path, encode(part("a"), RUN, KEY))
    table = pq.read_table(path, partitioning=None)
    description = json.loads(table.schema.metadata[b"ensemble_eval"])
    del description["key"]["device_type"]
    pq.write_table(table.replace_schema_metadata({b"ensemble_eval": json.dumps(description)}), path)
    path.rename(path.with_name(part_name(path.read_bytes())))
    with pytest.raises(InputError, match="was not written by this tool, or is damaged; choose another `out`"):
        Store(tmp_path, RUN, KEY).open()


def test_a_record_of_a_version_whose_keys_were_others_is_refused(tmp_path: Path) -> None:
    key = {name: value for name, value in KEY.to_json().items() if name != "device_type"}
    (tmp_path / "run.json").write_text(json.dumps({"key": key, "executions": []}))
    with pytest.raises(
        InputError, match=r"is not readable, or an earlier version of ensemble-eval wrote it; remove"
    ):
        record.refuse_foreign(tmp_path, RUN, KEY)


def test_long_values_are_cut_in_a_difference() -> None:
    kept, cut = "x" * 58, "x" * 59
    assert replace(KEY, dataset=kept).difference(replace(KEY, dataset="y")) == f'dataset "{kept}", now "y"'
    assert replace(KEY, dataset=cut).difference(replace(KEY, dataset="y")) == f'dataset "{cut[:56]}…, now "y"'
