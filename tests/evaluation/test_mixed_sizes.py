"""Members of two input sizes in one ensemble: each as alone, and the ensemble their mean, however they are run."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from builders import CLASS_NAMES, randomise, write_dataset
from conftest import Cli
from numpy.typing import NDArray
from outcome import outcome_bytes
from torch import Tensor, nn

from ensemble_eval.crops.pixels import decode, prepare
from ensemble_eval.crops.plan import CropRule
from ensemble_eval.datasets.opening import open_dataset
from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.job import RunJob
from ensemble_eval.evaluation.opening import open_sources, sources_of
from ensemble_eval.jobs.job import Progress
from ensemble_eval.jobs.process import Process, Role
from ensemble_eval.jobs.runner import run_job
from ensemble_eval.jobs.signals import StopRequests
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.members.imported import InputFormat
from ensemble_eval.members.preprocessing import Preprocessing
from ensemble_eval.settings import RunSettings

SMALL = """
name = "small"
size = 64
scales = [80, 72]
squares = ["centre", "first"]
positions = ["centre", "whole"]
mirror = "crop"
schemes = [2, 4, 16]
"""
# As many crops in another order, of another size, resized by other means.
LARGE = """
name = "large"
size = 96
scales = [96, 100]
fit = "squeeze"
positions = ["top-left", "top-right", "bottom-left", "bottom-right"]
mirror = "image"
order = ["mirror", "position", "square", "scale"]
resampling = "bicubic"
kernel = "pillow"
schemes = [2, 4, 16]
"""
SIZES = ((101, 67), (64, 64), (60, 90), (90, 60), (67, 101))


class _Small(nn.Module):
    """A network of a few thousand operations that takes images of any size."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 16, 7, 4)
        self.classifier = nn.Linear(16, len(CLASS_NAMES))
        randomise(self, seed)
        with torch.no_grad():
            self.classifier.weight.mul_(12)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.classifier(self.convolution(x).relu().mean(dim=(2, 3)))
        return outputs


@dataclass(frozen=True)
class _Inputs:
    """Three members, of 64, of 96 and of 64 pixels, and pictures."""

    members: Sequence[Member]
    settings: RunSettings

    def job(self, out: Path, names: str = "abc", **changes: Any) -> RunJob:
        """The run of some of the members."""
        settings = replace(self.settings, out=out, **changes)
        ensemble = Ensemble([each for each in self.members if each.name in names], CLASS_NAMES)
        return RunJob(settings, sources_of(ensemble, open_dataset(settings.dataset, ensemble.classes), settings))

    def events(self, job: RunJob, process: Process | None = None) -> Iterator[object]:
        yield from run_job(job, process or Process(), StopRequests(), ("no", "worker"))

    def run(self, out: Path, names: str = "abc", process: Process | None = None, **changes: Any) -> None:
        """Run some of the members to the end."""
        for _ in self.events(self.job(out, names, **changes), process):
            pass


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> _Inputs:
    folder = tmp_path_factory.mktemp("mixed")
    for name, text in (("small.toml", SMALL), ("large.toml", LARGE)):
        (folder / name).write_text(text)
    members = [
        Member(name, network=_Small(seed), input=InputFormat.imagenet(), protocol=folder / protocol)
        for seed, (name, protocol) in enumerate({"a": "small.toml", "b": "large.toml", "c": "small.toml"}.items())
    ]
    dataset = write_dataset(folder / "val", SIZES)
    settings = RunSettings(dataset=dataset, batch_size=16, device="cpu", backend="torch", workers=1)
    return _Inputs(members, settings)


@pytest.fixture(scope="module")
def whole(inputs: _Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run in one go."""
    out = tmp_path_factory.mktemp("whole")
    inputs.run(out)
    return out


def _scores(out: Path) -> Mapping[tuple[str, str, int], NDArray[np.float32]]:
    frame = pd.read_parquet(out / "predictions")
    keys = zip(frame["image"], frame["member"], frame["crops"], strict=True)
    return dict(zip(keys, frame["scores"], strict=True))


def test_each_member_scores_as_if_it_were_alone(inputs: _Inputs, whole: Path, tmp_path: Path) -> None:
    alone = dict[tuple[str, str, int], NDArray[np.float32]]()
    for name in "abc":
        inputs.run(tmp_path / name, name)
        alone.update(_scores(tmp_path / name))
    together = _scores(whole)
    assert {key for key in together if key[1] != "ensemble"} == alone.keys()
    for key, expected in alone.items():
        np.testing.assert_array_equal(together[key], expected)
    # They are different members and schemes.
    assert len({expected.tobytes() for expected in alone.values()}) == len(alone) == 3 * 3 * len(SIZES)


def test_the_scores_are_means_over_crops_and_members(inputs: _Inputs, whole: Path) -> None:
    """A slow version: every crop is run, those that coincide too."""
    found = _scores(whole)
    dataset = open_dataset(inputs.settings.dataset, Ensemble(inputs.members, CLASS_NAMES).classes)
    preprocess = Preprocessing(InputFormat.imagenet())
    for item in dataset.items:
        image = decode(item.read())
        probabilities = []
        for member in inputs.members:
            assert member.protocol is not None
            assert member.network is not None
            plan = CropRule((member.protocol,), 16).plan(image.shape[2], image.shape[1])
            source = prepare(image, plan)
            crops = torch.stack([source.cut(plan.views[view]) for view in plan.groups[0].view_of_crop])
            with torch.inference_mode():
                probabilities.append(member.network(preprocess(crops)).double().softmax(dim=1).numpy())
        for scheme in (2, 4, 16):
            means = [each[:scheme].mean(axis=0) for each in probabilities]
            for name, expected in zip((*"abc", "ensemble"), [*means, np.mean(means, axis=0)], strict=True):
                np.testing.assert_allclose(found[item.id, name, scheme], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_the_batch_size_changes_no_decision(inputs: _Inputs, whole: Path, tmp_path: Path, batch_size: int) -> None:
    inputs.run(tmp_path, batch_size=batch_size)
    assert (tmp_path / "table3.csv").read_bytes() == (whole / "table3.csv").read_bytes()
    found = _scores(tmp_path)
    # Another shape of batches may give other last bits.
    for key, expected in _scores(whole).items():
        np.testing.assert_allclose(found[key], expected, rtol=0, atol=1e-5)


def test_two_ranks_write_the_same_bytes(inputs: _Inputs, whole: Path, tmp_path: Path) -> None:
    inputs.run(tmp_path, process=Process(1, 2, role=Role.RANK))
    assert not (tmp_path / "table3.csv").exists()
    inputs.run(tmp_path, process=Process(0, 2, role=Role.RANK))
    assert outcome_bytes(tmp_path) == outcome_bytes(whole)


def test_an_interrupted_run_writes_the_same_bytes(inputs: _Inputs, whole: Path, tmp_path: Path) -> None:
    with contextlib.closing(run_job(inputs.job(tmp_path), Process(), StopRequests(), ("no", "worker"))) as events:
        for event in events:
            if isinstance(event, Progress) and event.images_done == 2:
                break
    assert not (tmp_path / "table3.csv").exists()
    inputs.run(tmp_path)
    assert outcome_bytes(tmp_path) == outcome_bytes(whole)


def test_the_surface_changes_nothing_of_the_rest(inputs: _Inputs, whole: Path, tmp_path: Path) -> None:
    inputs.run(tmp_path, surface=True)
    assert (tmp_path / "table3.csv").read_bytes() == (whole / "table3.csv").read_bytes()
    rows = pd.read_parquet(tmp_path / "predictions").sort_values(["image", "member", "crops"], ignore_index=True)
    expected = pd.read_parquet(whole / "predictions").sort_values(["image", "member", "crops"], ignore_index=True)
    pd.testing.assert_frame_equal(rows[list(expected.columns)], expected)
    # The label's rank by all members and crops is that of the ensemble.
    last = rows[rows["surface_ranks"].notna()]
    assert list(last["image"]) == sorted(set(rows["image"]))
    assert [ranks[-1] for ranks in last["surface_ranks"]] == list(
        rows[(rows["member"] == "ensemble") & (rows["crops"] == 16)]["rank"]
    )


@pytest.mark.parametrize("top1", [False, True])
def test_early_exit_decides_as_a_full_run(inputs: _Inputs, whole: Path, tmp_path: Path, top1: bool) -> None:
    inputs.run(tmp_path, until_decided=True, top1=top1)
    keys = ["image", "member", "crops"]
    full = pd.read_parquet(whole / "predictions").set_index(keys)["rank"]
    decided = pd.read_parquet(tmp_path / "predictions").set_index(keys)
    for column, k in (("top5_correct", 5), ("top1_correct", 1)):
        known = decided[column].dropna()
        assert len(known) == len(decided) or (column == "top1_correct" and not top1)
        assert list(known.astype(bool)) == list(full[known.index] < k)
    table, expected = (pd.read_csv(out / "table3.csv") for out in (tmp_path, whole))
    assert list(table["top5_error"]) == list(expected["top5_error"])
    if top1:
        assert list(table["top1_error"]) == list(expected["top1_error"])


def test_members_of_one_protocol_share_its_views(inputs: _Inputs, tmp_path: Path) -> None:
    rule = inputs.job(tmp_path).sources.rule
    assert rule.groups == ((0, 2), (1,))
    assert rule.name == "small and large"
    plan = rule.plan(101, 67)
    # The four positions of the large one coincide at the scale of its crops.
    assert [len(group.views) for group in plan.groups] == [16, 2 + 8]
    assert [group.weights[16] for group in plan.groups] == [(1,) * 16, (4, 1, 1, 1, 1, 4, 1, 1, 1, 1)]
    # Two scales of each: every image is resized four times.
    assert [canvas.scale for canvas in plan.canvases] == [72, 80, 96, 100]


@pytest.fixture
def manifest(ensemble: Path, tmp_path: Path) -> Path:
    """A copy of the tiny ensemble, beside the two protocols."""
    folder = tmp_path / "ensemble"
    shutil.copytree(ensemble.parent, folder)
    (folder / "small.toml").write_text(SMALL)
    (folder / "large.toml").write_text(LARGE)
    return folder / ensemble.name


def _name_protocols(manifest: Path, **protocols: str) -> None:
    text = manifest.read_text()
    for member, protocol in protocols.items():
        text = text.replace(f'name = "{member}"', f'name = "{member}"\nprotocol = "{protocol}"')
    manifest.write_text(text)


def test_members_of_other_schemes_are_no_ensemble(cli: Cli, dataset: Path, manifest: Path, tmp_path: Path) -> None:
    _name_protocols(manifest, a="small.toml", b="krizhevsky-10")
    refused = cli("run", dataset, "--ensemble", manifest, "--out", tmp_path / "out")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == (
        "error: the protocol small has schemes of 2, 4, 16 crops and krizhevsky-10 of 1, 10; the members of an "
        "ensemble need the same schemes\n"
    )
    assert not (tmp_path / "out").exists()


def test_a_manifest_names_protocols_in_files_beside_it(
    cli: Cli, dataset: Path, manifest: Path, tmp_path: Path
) -> None:
    _name_protocols(manifest, a="small.toml", b="large.toml")
    arguments = ("run", dataset, "--ensemble", manifest, "--out", tmp_path / "out", "--crops", "4", "--limit", "2")
    finished = cli(*arguments)
    assert finished.code == 0, finished.err
    table = pd.read_csv(tmp_path / "out" / "table3.csv")
    assert list(zip(table["models"], table["crops"], strict=True)) == [(1, 2), (1, 4), (2, 2), (2, 4)]


def test_the_evaluations_protocol_is_for_members_that_name_none(dataset: Path, manifest: Path) -> None:
    _name_protocols(manifest, a="small.toml")
    settings = RunSettings(dataset=dataset, ensemble=manifest, device="cpu", backend="torch")
    large = replace(settings, protocol=str(manifest.parent / "large.toml"))
    assert [each.name for each in open_sources(large).rule.protocols] == ["small", "large"]
    with pytest.raises(InputError, match="small has schemes of 2, 4, 16 crops and googlenet of 1, 10, 144; the"):
        open_sources(settings)
