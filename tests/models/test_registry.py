from typing import Any

import pytest
from torch import nn

from ensemble_eval.errors import InputError
from ensemble_eval.models.registry import ARCHITECTURES, build, build_python


@pytest.mark.parametrize("arch", ["resnet50", "GoogLeNet", "", "python:torch.nn:Identity"])
def test_an_unknown_architecture_is_refused_and_the_known_ones_are_named(arch: str) -> None:
    with pytest.raises(InputError, match="unknown architecture") as refusal:
        build(arch, 10)
    for known in ARCHITECTURES:
        assert known in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"depth": 22}, "unknown option 'depth'; known are width, dropout, auxiliary_dropout"),
        ({"width": 0}, "width is above 0 and at most 16, not 0"),
        ({"width": -0.5}, "width is above 0 and at most 16, not -0.5"),
        ({"width": 17}, "width is above 0 and at most 16, not 17"),
        ({"width": float("nan")}, "width is above 0 and at most 16, not nan"),
        ({"width": "wide"}, "option width is a number, not 'wide'"),
        ({"width": True}, "option width is a number, not True"),
        ({"dropout": 1}, "dropout is at least 0 and below 1, not 1"),
    ],
)
def test_an_impossible_option_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as refusal:
        build("googlenet", 10, **options)
    assert str(refusal.value) == f"googlenet: {sentence}"


def test_no_classes_are_refused() -> None:
    with pytest.raises(InputError, match="at least one class, not 0"):
        build("googlenet", 0)


def test_a_python_callable_gets_the_manifests_options() -> None:
    network = build_python("python:torch.nn:Linear", {"in_features": 3, "out_features": 2})
    assert isinstance(network, nn.Linear)
    assert network.weight.shape == (2, 3)


@pytest.mark.parametrize(
    ("arch", "options", "sentence"),
    [
        ("python:torch.nn", {}, "not of the form python:package.module:callable"),
        ("python::Linear", {}, "not of the form python:package.module:callable"),
        ("python:no_such_package:net", {}, "cannot be imported .*no_such_package.*; install the package"),
        ("python:torch.nn:NoSuchLayer", {}, "cannot be imported .*NoSuchLayer"),
        ("python:torch.nn:ReLU", {"colour": 1}, "does not accept the manifest's options .*colour"),
        ("python:torch.nn:Linear", {}, "does not accept the manifest's options .*in_features"),
        (
            "python:collections:OrderedDict.fromkeys",
            {"iterable": "ab"},
            r"returned OrderedDict, not a torch\.nn\.Module",
        ),
    ],
)
def test_an_unusable_python_callable_is_refused(arch: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        build_python(arch, options)
