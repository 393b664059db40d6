"""Settings are checked when they are made, from Python as from the command line."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from builders import all_commands

from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.api import evaluate, scores
from ensemble_eval.jobs.batch import BatchJob
from ensemble_eval.settings import (
    DetectSettings,
    ProposeSettings,
    RunSettings,
    Settings,
    SvmSettings,
    TrainingSettings,
)

DEVICES = "`device` is auto, cpu, cuda or cuda:N, not "


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("backend", "onnx", "`backend` is one of 'auto', 'torch', 'compiled', 'openvino', not 'onnx'"),
        ("backend", "Torch", "`backend` is one of 'auto', 'torch', 'compiled', 'openvino', not 'Torch'"),
        ("backend", None, "`backend` is one of 'auto', 'torch', 'compiled', 'openvino', not None"),
        ("precision", "half", "`precision` is one of 'float32', 'bfloat16', 'float16', not 'half'"),
        ("precision", torch.float64, "`precision` is one of 'float32', 'bfloat16', 'float16', not 'float64'"),
        ("crops", 0, "`crops` is a whole number of at least 1, not 0"),
        ("crops", 1.0, "`crops` is a whole number, not 1.0"),
        ("crops", True, "`crops` is a whole number, not True"),
        ("crops", "10", "`crops` is a whole number, not '10'"),
        ("device", "gpu", f"{DEVICES}'gpu'"),
        ("device", "cuda:x", f"{DEVICES}'cuda:x'"),
        ("device", "", f"{DEVICES}''"),
        ("device", "cpu\n", f"{DEVICES}'cpu\\n'"),
        ("device", 0, f"{DEVICES}0"),
        ("device", torch.device("meta"), f"{DEVICES}'meta'"),
        ("batch_size", "a", "`batch_size` is a whole number, not 'a'"),
        ("batch_size", 0, "`batch_size` is a whole number of at least 1, not 0"),
        ("batch_size", 2.5, "`batch_size` is a whole number, not 2.5"),
        ("workers", True, "`workers` is a whole number, not True"),
        ("out", None, "`out` is a path, not None"),
        ("out", "", "`out` is a path, not ''"),
        ("out", 5, "`out` is a path, not 5"),
        ("fresh", 1, "`fresh` is true or false, not 1"),
        ("surface", "yes", "`surface` is true or false, not 'yes'"),
        ("save_every", float("nan"), "`save_every` is a number of seconds, not nan"),
        ("save_every", "30", "`save_every` is a number of seconds, not '30'"),
        ("save_every", -1, "`save_every` is a number of seconds of at least 0, not -1"),
        ("save_every", 10**400, "`save_every` is a number of seconds, not 1000"),
        ("top1", True, "`top1` belongs to `until_decided`; a full run has the top-1 columns anyway"),
    ],
)
def test_what_a_setting_does_not_take_is_refused_with_what_it_takes(name: str, value: Any, sentence: str) -> None:
    with pytest.raises(InputError) as refusal:
        Settings(**{name: value})
    assert str(refusal.value).startswith(sentence)


def test_values_of_torch_and_numpy_are_taken_as_what_they_are_called() -> None:
    given: dict[str, Any] = {"device": torch.device("cuda", 1), "precision": torch.bfloat16, "crops": np.int64(10)}
    settings = Settings(**given, batch_size=np.int32(8), save_every=np.float32(2), out="there")  # type: ignore[arg-type]  # what NumPy and users give
    assert settings == Settings(
        device="cuda:1", precision="bfloat16", crops=10, batch_size=8, save_every=2.0, out=Path("there")
    )
    assert type(settings.crops) is int


@pytest.mark.parametrize(
    ("kind", "given", "sentence"),
    [
        (RunSettings, {"layout": "nope"}, "`layout` is one of 'auto', 'class-folders', "),
        (RunSettings, {"subset_classes": "some"}, "`subset_classes` is one of 'all', 'dataset', not 'some'"),
        (RunSettings, {"dataset": None}, "`dataset` is a path, not None"),
        (RunSettings, {"ranks": 0}, "`ranks` is a whole number of at least 1, not 0"),
        (RunSettings, {"sample": 3, "seed": -1}, "`seed` is a whole number of at least 0, not -1"),
        (RunSettings, {"seed": 1}, "`seed` draws the images of `sample`; give both, or leave it out"),
        (RunSettings, {"limit": 1, "sample": 1}, "`limit` and `sample` exclude each other"),
        (RunSettings, {"timeout": 9}, "`timeout=9` must be longer than `save_every=30`"),
        (RunSettings, {"until_decided": True, "surface": True}, "`surface` needs every pass"),
        (TrainingSettings, {"members": "ab"}, "`members` is a list, not 'ab'"),
        (TrainingSettings, {"device": "tpu"}, f"{DEVICES}'tpu'"),
        (BatchJob, {"nodes": 0}, "`nodes` is a whole number of at least 1, not 0"),
    ],
)
def test_every_kind_of_settings_checks_itself(kind: Any, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as refusal:
        kind(**{**({"dataset": "val"} if kind is RunSettings else {}), **given})
    assert str(refusal.value).startswith(sentence)


def test_every_setting_of_a_run_is_an_option_of_run_and_submit_with_its_default() -> None:
    spelt = {"store_scores": "scores", "cache": "no_cache"}
    for command in ("run", "submit"):
        options = {each.name: each for each in all_commands()[command].params}
        for field in dataclasses.fields(RunSettings):
            option = options[spelt.get(field.name, field.name)]
            if isinstance(option, click.Option) and field.name not in spelt:
                assert option.get_default(click.Context(all_commands()[command])) == field.default


def test_evaluate_and_scores_take_the_settings_with_their_defaults() -> None:
    """A run in this process is watched by `progress`, and needs no partial table."""
    arguments = {each: inspect.signature(each).parameters for each in (evaluate, scores)}
    names = {field.name for field in dataclasses.fields(Settings)}
    assert set(arguments[evaluate]) - {"ensemble", "dataset", "progress"} == names - {"live"}
    assert set(arguments[scores]) - {"ensemble", "dataset", "on_unreadable"} <= names
    for name in names:
        for each in arguments.values():
            assert name not in each or each[name].default == getattr(Settings, name)


@pytest.mark.parametrize(
    ("command", "kind", "not_options"),
    [
        ("detect", DetectSettings, set()),
        ("propose", ProposeSettings, {"device"}),
        ("detect-svm", SvmSettings, set()),
    ],
)
def test_every_setting_of_detection_is_an_option(command: str, kind: type, not_options: set[str]) -> None:
    spelt = {"cache": "no_cache"}
    names = {spelt.get(field.name, field.name) for field in dataclasses.fields(kind)} - not_options
    assert {each.name for each in all_commands()[command].params} == names | {"dataset"}
