import csv
import errno
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli
from tiny_training import CLASS_NAMES, write_recipe
from torch import Tensor

from ensemble_eval.members.importers.opening import read_weights
from ensemble_eval.members.loading import load_member
from ensemble_eval.members.manifest import open_ensemble, read_member
from ensemble_eval.settings import TrainingSettings
from ensemble_eval.training import job
from ensemble_eval.training.task import Task
from ensemble_eval.training.trainer import Trainer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, its pictures, and in `out` what training its three members left; read only."""
    from ensemble_eval.training.config import read_recipe
    from ensemble_eval.training.processes import Processes

    folder = tmp_path_factory.mktemp("finished")
    recipe = read_recipe(write_recipe(folder))
    list(job.train(recipe, TrainingSettings(out=folder / "out", device="cpu", workers=0), Processes()))
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copied"))


def test_everything_is_written_and_the_ensemble_can_be_loaded(finished: Path) -> None:
    out = finished / "out"
    names = {path.name for path in out.iterdir()}
    per_member = {f"{name}.{suffix}" for name in "abc" for suffix in ("safetensors", "csv", "json")}
    assert names == per_member | {"classes.txt", "ensemble.toml"}
    ensemble = open_ensemble(out / "ensemble.toml")
    assert ensemble.name == "tiny"
    assert ensemble.classes.names == CLASS_NAMES
    assert [(member.name, member.options["width"]) for member in ensemble.members] == [
        ("a", 0.05),
        ("b", 0.05),
        ("c", 0.08),
    ]
    for member in ensemble.members:
        network = load_member(member, len(CLASS_NAMES))
        assert not [name for name in network.state_dict() if name.startswith("aux")]
        assert read_member(member.weights_file)[1].names == CLASS_NAMES
    tensors = read_weights(out / "a.safetensors").tensors
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32, torch.int64}
    assert not torch.equal(tensors["fc.weight"], read_weights(out / "b.safetensors").tensors["fc.weight"])


def test_the_log_and_the_record_agree(finished: Path) -> None:
    with (finished / "out" / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["steps"], row["averaged_iterates"]) for row in rows] == [
        ("0", "4", "0"),
        ("1", "8", "4"),
        ("2", "12", "8"),
    ]
    expected = {"learning_rate", "train_loss", "val_top1_error", "val_top5_error", "images_per_second", "seconds"}
    assert expected <= rows[0].keys()
    record = json.loads((finished / "out" / "a.json").read_text())
    assert record["last_epoch"]["train_loss"] == pytest.approx(float(rows[-1]["train_loss"]), rel=1e-4)
    assert record["decides_the_weights"]["member.seed"] == 1
    assert record["train_images"] == 18


def test_the_command_says_what_it_does_and_skips_what_is_done(cli: Cli, copied: Path) -> None:
    for path in (copied / "out").glob("b.*"):
        path.unlink()
    before = (copied / "out" / "a.safetensors").read_bytes()
    done = cli("train", copied / "tiny.toml", "--out", copied / "out", "--workers", 0, "--device", "cpu")
    assert done.code == 0
    lines = done.err.splitlines()
    assert lines[:3] == ["a: already trained", "c: already trained", "b: 3 epochs, 12 steps"]
    assert lines[3].startswith("b: epoch 0, loss ")
    assert "(mean of 8 iterates)" in lines[5]
    assert lines[6] == f"b: written to {copied / 'out' / 'b.safetensors'}"
    assert done.out == f"written to {copied / 'out' / 'ensemble.toml'}\n"
    assert (copied / "out" / "a.safetensors").read_bytes() == before


def test_members_trained_alone_are_those_trained_together(cli: Cli, finished: Path, tmp_path: Path) -> None:
    data = ("--train-data", finished / "train", "--val-data", finished / "val", "--workers", 0)
    done = cli("train", finished / "tiny.toml", *data, "--out", tmp_path, "--member", "b")
    assert done.code == 0
    assert [member.name for member in open_ensemble(tmp_path / "ensemble.toml").members] == ["b"]
    assert (tmp_path / "b.safetensors").read_bytes() == (finished / "out" / "b.safetensors").read_bytes()


@pytest.mark.processes
def test_decoded_images_give_the_same_weights(cli: Cli, finished: Path, tmp_path: Path) -> None:
    write_recipe(tmp_path, data={"cache_decoded": True})
    done = cli("train", tmp_path / "tiny.toml", "--out", tmp_path / "out", "--member", "a", "--workers", 1)
    assert done.code == 0
    assert done.err.startswith("24 images decoded in ")
    assert (tmp_path / "out" / "a.safetensors").read_bytes() == (finished / "out" / "a.safetensors").read_bytes()


@pytest.mark.parametrize("stopped_by", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_continued_the_weights_are_the_same(
    cli: Cli, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_by: signal.Signals
) -> None:
    arguments = ("train", finished / "tiny.toml", "--out", tmp_path, "--member", "a", "--workers", 0)
    original = Trainer._take_step

    def stop_at_step_8(trainer: Trainer, *rest: Any) -> Tensor:
        if trainer.step == 7:
            os.kill(os.getpid(), stopped_by)
        return original(trainer, *rest)

    monkeypatch.setattr(Trainer, "_take_step", stop_at_step_8)
    stopped = cli(*arguments, "--fresh")
    monkeypatch.undo()
    assert stopped.code == 128 + stopped_by
    assert f"stopped by {stopped_by.name}; continue from the last saved step with: " in stopped.err
    assert "--fresh" not in stopped.err
    assert (tmp_path / "a.training-state.pt").exists()
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 2
    continued = cli(*arguments)
    assert continued.code == 0
    assert "a: 3 epochs, 12 steps, continued from 6" in continued.err
    assert (tmp_path / "a.safetensors").read_bytes() == (finished / "out" / "a.safetensors").read_bytes()
    assert not (tmp_path / "a.training-state.pt").exists()


def test_another_recipe_is_refused_with_the_difference_and_fresh_starts_over(cli: Cli, copied: Path) -> None:
    recipe = write_recipe(copied, schedule={"momentum": 0.5}, sampling={"contrast": 0.1})
    arguments = ("train", recipe, "--out", copied / "out", "--workers", 0, "--member", "a")
    refused = cli(*arguments)
    assert refused.code == 2
    assert "member a in" in refused.err
    assert "schedule.momentum was 0.9 and is now 0.5; sampling.contrast was 0.5 and is now 0.1" in refused.err
    before = (copied / "out" / "b.safetensors").read_bytes()
    for name in "bc":
        for path in (copied / "out").glob(f"{name}.*"):
            path.rename(copied / path.name)
    assert cli(*arguments, "--fresh").code == 0
    assert (copied / "b.safetensors").read_bytes() == before


def test_a_state_of_another_recipe_or_other_images_is_refused(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe(tmp_path)
    arguments = ("train", recipe, "--out", tmp_path / "out", "--workers", 0, "--member", "a")
    monkeypatch.setattr(Task, "judge", _stop)
    assert cli(*arguments).code == 1 + 128
    monkeypatch.undo()
    (tmp_path / "train" / "ant" / "0.png").unlink()
    refused = cli(*arguments)
    assert refused.code == 2
    assert "training images was '" in refused.err
    write_recipe(tmp_path, schedule={"learning_rate": 0.01})
    assert "schedule.learning_rate was 0.02 and is now 0.01" in cli(*arguments).err


def _stop(*_arguments: object) -> None:
    from ensemble_eval.errors import InterruptedRunError

    raise InterruptedRunError("stopped", 1)


@pytest.mark.processes
def test_an_unreadable_image_is_listed_and_the_run_goes_on(cli: Cli, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    (tmp_path / "train" / "bee" / "1.png").write_bytes((tmp_path / "train" / "bee" / "1.png").read_bytes()[:200])
    (tmp_path / "val" / "cat" / "0.png").write_bytes(b"")
    done = cli("train", recipe, "--out", tmp_path / "out", "--workers", 1, "--member", "a")
    assert done.code == 3
    listed = tmp_path / "out" / "unreadable.csv"
    assert f"warning: 2 unreadable images were left out; see {listed}" in done.err
    with listed.open() as file:
        assert [(row["split"], row["image"]) for row in csv.DictReader(file)] == [
            ("train", "bee/1.png"),
            ("val", "cat/0.png"),
        ]
    assert (tmp_path / "out" / "a.safetensors").exists()


def test_a_class_without_images_is_refused(cli: Cli, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    (tmp_path / "train" / "yak").mkdir()
    refused = cli("train", recipe, "--out", tmp_path / "out")
    assert refused.code == 2
    assert "1 of 4 classes have no images (yak); add images or remove their folders" in refused.err
    assert not (tmp_path / "out").exists()


def test_a_loss_that_becomes_nan_names_the_step_and_keeps_the_last_good_state(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe(tmp_path)
    original = Task.loss

    def spoilt(task: Task, network: torch.nn.Module, batch: Any) -> torch.Tensor:
        loss = original(task, network, batch)
        spoilt_steps.append(1)
        return loss * float("nan") if len(spoilt_steps) == 6 else loss

    spoilt_steps: list[int] = []
    monkeypatch.setattr(Task, "loss", spoilt)
    stopped = cli("train", recipe, "--out", tmp_path / "out", "--workers", 0, "--member", "a")
    assert stopped.code == 2
    assert "member a: the loss became NaN or infinite at step 6 (epoch 1)" in stopped.err
    state = job.read_state(tmp_path / "out" / "a.training-state.pt")
    assert state["step"] == 4
    assert all(bool(value.isfinite().all()) for value in state["trainer"]["network"].values())


def test_a_full_disk_is_said_and_the_previous_state_is_whole(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe(tmp_path)
    original, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    stopped = cli("train", recipe, "--out", tmp_path / "out", "--workers", 0, "--member", "a")
    assert stopped.code == 2
    assert "cannot be written (No space left on device); free space or choose another folder" in stopped.err
    assert job.read_state(tmp_path / "out" / "a.training-state.pt")["step"] in (3, 4, 6)
    assert not list((tmp_path / "out").glob("*.tmp")) + list((tmp_path / "out").glob(".*.tmp"))


@pytest.mark.parametrize("content", [b"", b"no state", b"PK\x03\x04 cut"])
def test_a_damaged_state_is_refused_with_the_remedy(cli: Cli, tmp_path: Path, content: bytes) -> None:
    recipe = write_recipe(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.training-state.pt").write_bytes(content)
    refused = cli("train", recipe, "--out", tmp_path / "out", "--workers", 0)
    assert refused.code == 2
    assert "a.training-state.pt cannot be read; start over with --fresh" in refused.err


def test_a_state_never_runs_code(tmp_path: Path) -> None:
    from ensemble_eval.errors import InputError

    torch.save({"step": 1, "evil": Path("/")}, tmp_path / "state.pt")
    with pytest.raises(InputError, match="cannot be read"):
        job.read_state(tmp_path / "state.pt")


def test_bad_usage_is_one_sentence(cli: Cli, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, schedule={"epochs": -1})
    refused = cli("train", recipe)
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert "epochs is a whole number of at least 1" in refused.err
    recipe = write_recipe(tmp_path)
    assert "no member 'x'" in cli("train", recipe, "--member", "x").err
    assert "does not exist" in cli("train", recipe, "--train-data", tmp_path / "nowhere").err
