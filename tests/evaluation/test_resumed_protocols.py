"""Protocols in the key of a run: another one is another run, and folders of versions without them continue."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from builders import member_key, run_key
from conftest import Cli

from ensemble_eval.crops.protocols import GOOGLENET, PROTOCOLS, Protocol, own_protocol
from ensemble_eval.evaluation.key import RunKey

MINE = 'name = "mine"\nsize = 64\nscales = [64]\nmirror = "crop"\nschemes = [1, 2]\n'


def _arguments(dataset: Path, ensemble: Path, out: Path, *others: object) -> tuple[object, ...]:
    return ("run", dataset, "--ensemble", ensemble, "--out", out, "--limit", "2", *others)


@pytest.fixture(scope="module")
def protocol(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("protocol") / "mine.toml"
    path.write_text(MINE)
    return path


def test_a_run_with_another_protocol_is_another_run(
    cli: Cli, dataset: Path, ensemble: Path, protocol: Path, tmp_path: Path
) -> None:
    run = _arguments(dataset, ensemble, tmp_path / "out", "--protocol", protocol)
    assert cli(*run).code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    # The same values under another name are the same protocol.
    protocol.with_name("other.toml").write_text(MINE.replace("mine", "other"))
    again = cli(*_arguments(dataset, ensemble, tmp_path / "out", "--protocol", protocol.with_name("other.toml")))
    assert again.code == 0, again.err
    protocol.with_name("larger.toml").write_text(
        MINE.replace("mine", "other").replace("scales = [64]", "scales = [65]")
    )
    scales, name = "protocol scales [64], now [65]", 'protocol name "other", now'
    others = {
        protocol.with_name("larger.toml"): f"member a {scales}; member b {scales}",
        "krizhevsky-10": f'crops 2, now 10; member a {name} "krizhevsky-10"; member b {name} "krizhevsky-10"',
        "googlenet": f'crops 2, now 144; member a {name} "googlenet"; member b {name} "googlenet"',
    }
    for other, difference in others.items():
        refused = cli(*_arguments(dataset, ensemble, tmp_path / "out", "--protocol", other))
        assert (refused.code, refused.out) == (2, "")
        assert refused.err == (
            f"error: {tmp_path / 'out'} belongs to another run ({difference}); choose another --out, or run with "
            "--fresh to start over there\n"
        )
    after = {path: path.read_bytes() for path in before}
    assert {path: data for path, data in after.items() if path.suffix == ".parquet"} == {
        path: data for path, data in before.items() if path.suffix == ".parquet"
    }


def _keys(out: Path) -> list[dict[str, object]]:
    """The keys that the record and the parts of a run hold."""
    parts = [path for path in (out / "predictions").rglob("*.parquet") if not path.name.startswith("_")]
    stored = [json.loads(pq.read_schema(path).metadata[b"ensemble_eval"]) for path in parts]
    return [each["key"] for each in [json.loads((out / "run.json").read_text()), *stored]]


# The key of a run of the shipped six before there were protocols, as its record has it, with two of its members.
BEFORE = """{
 "backend": "torch", "classes": 7, "crops": 10, "dataset": "5c1b", "device_type": "cpu", "images": 6,
 "interpolation": "bilinear", "member a": {"arch": "googlenet", "input": {"channels": "rgb",
 "mean": [0.485, 0.456, 0.406], "scale": 255.0, "std": [0.229, 0.224, 0.225], "transform_input": false},
 "options": {"width": 0.05}, "weights": "46ed"}, "members": ["a"], "precision": "float32", "scores": true,
 "surface": false, "until_decided": []}"""


def test_a_key_of_before_is_that_of_googlenet() -> None:
    key = RunKey.from_json(json.loads(BEFORE))
    assert key.rule.protocols == (GOOGLENET,)
    assert key.schemes == (1, 10)
    assert key.to_json() == json.loads(BEFORE)


def test_a_run_of_googlenet_is_stored_as_before_and_continued(
    cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path
) -> None:
    """A folder in which nothing names a protocol is what versions without them have written."""
    out = tmp_path / "out"
    assert cli(*_arguments(dataset, ensemble, out, "--crops", "1")).code == 0
    keys = _keys(out)
    assert len(keys) >= 2
    assert not any("protocol" in json.dumps(key) or '"size"' in json.dumps(key) for key in keys)
    table = (out / "table3.csv").read_bytes()
    (out / "table3.csv").unlink()
    again = cli(*_arguments(dataset, ensemble, out, "--crops", "1", "--protocol", "googlenet"))
    assert again.code == 0, again.err
    assert (out / "table3.csv").read_bytes() == table


@pytest.mark.parametrize(
    "protocol",
    [*PROTOCOLS.values(), own_protocol(299, 341, "border", "bicubic", (0.5, 0.4, 0.3))],
    ids=lambda protocol: protocol.name,
)
def test_a_key_with_a_protocol_comes_back_from_json_as_it_was(protocol: Protocol) -> None:
    key = run_key(crops=protocol.schemes[-1], members=(replace(member_key("a"), protocol=protocol),))
    back = RunKey.from_json(json.loads(json.dumps(key.to_json())))
    assert back == key
    assert back.members[0].protocol.name == protocol.name
    assert back.members[0].protocol.crops == protocol.crops
