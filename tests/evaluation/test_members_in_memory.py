from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from builders import CLASS_NAMES, colour_classifier, tiny_network, write_dataset, write_ensemble
from torch import Tensor, nn

from ensemble_eval.datasets.items import Dataset
from ensemble_eval.datasets.opening import open_dataset
from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.job import RunJob
from ensemble_eval.evaluation.opening import open_folder, open_inputs, sources_of
from ensemble_eval.jobs.job import Progress
from ensemble_eval.jobs.runner import run_alone
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.members.imported import InputFormat
from ensemble_eval.members.manifest import open_ensemble
from ensemble_eval.settings import Backend, Settings

SETTINGS = Settings(crops=1, device="cpu", backend="torch", batch_size=4, workers=1)
COUNT = len(CLASS_NAMES)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = write_dataset(tmp_path_factory.mktemp("data") / "val", [(60, 50), (40, 64), (33, 33)])
    return open_dataset(root, _ensemble(_colours()).classes)


def _ensemble(*members: Member) -> Ensemble:
    return Ensemble(members, CLASS_NAMES)


def _network(network: nn.Module, name: str = "a") -> Member:
    return Member(name, network=network, input=InputFormat.imagenet())


def _colours(seed: int = 0, *, fingerprint: str | None = "colours") -> Member:
    return Member("f", predict=colour_classifier(seed), fingerprint=fingerprint)


def _evaluate(out: Path, ensemble: Ensemble, dataset: Dataset, settings: Settings = SETTINGS) -> int:
    """Passes of a stored run."""
    settings = replace(settings, out=out)
    sources = sources_of(ensemble, dataset, settings)
    steps = [event for event in run_alone(RunJob(settings, sources)) if isinstance(event, Progress)]
    return steps[-1].passes if steps else 0


def _predictions(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "predictions").sort_values(["image", "member"], ignore_index=True)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_network_in_memory_predicts_what_its_file_does(tmp_path: Path, dataset: Dataset, backend: str) -> None:
    if backend == "openvino":
        pytest.importorskip("ensemble_eval.backends.openvino", reason="the extra [cpu] is not installed")
    settings = Settings(crops=1, device="cpu", backend=backend, batch_size=4, workers=1)  # type: ignore[arg-type]  # a text of a table
    _evaluate(tmp_path / "memory", _ensemble(_network(tiny_network(seed=0))), dataset, settings)
    _evaluate(tmp_path / "file", open_ensemble(write_ensemble(tmp_path / "one", members=1)), dataset, settings)
    pd.testing.assert_frame_equal(_predictions(tmp_path / "memory"), _predictions(tmp_path / "file"))


class _WorksInPlace(nn.Module):
    """A classifier of mean colours that leaves nothing of its input."""

    def forward(self, x: Tensor) -> Tensor:
        logits = x.mean(dim=(2, 3)).repeat(1, 3)[:, :COUNT]
        x.zero_()
        return logits


class _Outputs:
    """What some libraries return in place of a tensor."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


class _Making(nn.Module):
    """Returns what a function makes of the logits."""

    def __init__(self, make: Callable[[Tensor], object]) -> None:
        super().__init__()
        self._make = make

    def forward(self, x: Tensor) -> object:
        return self._make(x.mean(dim=(2, 3)).repeat(1, 3)[:, :COUNT])


def _fails(_: Tensor) -> Tensor:
    raise LookupError("no such key")


@pytest.mark.parametrize("backend", ["torch", "openvino"])
@pytest.mark.parametrize(
    ("make", "sentence", "cause"),
    [
        (_fails, r"its network raises LookupError \(no such key\); fix it", LookupError),
        (lambda _: None, "returns NoneType", None),
        (_Outputs, "returns _Outputs", None),
    ],
)
def test_what_is_wrong_with_a_network_is_said_of_the_member(
    dataset: Dataset, backend: Backend, make: Callable[[Tensor], object], sentence: str, cause: type | None
) -> None:
    if backend == "openvino":
        pytest.importorskip("ensemble_eval.backends.openvino", reason="the extra [cpu] is not installed")
    settings = replace(SETTINGS, backend=backend)
    sources = sources_of(_ensemble(_network(_Making(make), "mine")), dataset, settings)
    with pytest.raises(InputError, match=f"^member mine.* {sentence}") as caught:
        open_inputs(settings, sources)
    assert cause is None or cause in _causes(caught.value)


def test_what_a_function_raises_is_said_of_the_member(dataset: Dataset) -> None:
    sources = sources_of(_ensemble(Member("f", predict=_fails, fingerprint="1")), dataset, SETTINGS)
    with pytest.raises(InputError, match=r"^member f: `predict` raises LookupError") as caught:
        open_inputs(SETTINGS, sources)
    assert LookupError in _causes(caught.value)


def _causes(error: BaseException | None) -> list[type]:
    return [] if error is None else [type(error), *_causes(error.__cause__)]


def test_networks_that_work_on_their_input_in_place_do_not_disturb_each_other(
    tmp_path: Path, dataset: Dataset
) -> None:
    members = [_network(_WorksInPlace(), name) for name in "ab"]
    _evaluate(tmp_path, _ensemble(*members), dataset)
    scores = {name: np.stack(list(rows["scores"])) for name, rows in _predictions(tmp_path).groupby("member")}
    np.testing.assert_array_equal(scores["a"], scores["b"])
    assert np.ptp(scores["a"]) > 0


def test_equal_tensors_continue_a_run_and_others_are_another_run(tmp_path: Path, dataset: Dataset) -> None:
    network = tiny_network()
    assert _evaluate(tmp_path, _ensemble(_network(network)), dataset) == 3
    assert _evaluate(tmp_path, _ensemble(_network(tiny_network())), dataset) == 0
    classifier = network.get_submodule("fc")
    assert isinstance(classifier, nn.Linear)
    with torch.no_grad():
        classifier.bias[0] += 1e-3
    with pytest.raises(InputError, match=r"another run .*member a "):
        _evaluate(tmp_path, _ensemble(_network(network)), dataset)


def test_a_function_is_a_member_beside_a_network(tmp_path: Path, dataset: Dataset) -> None:
    ensemble = _ensemble(_colours(), _network(tiny_network()))
    assert list(open_inputs(SETTINGS, sources_of(ensemble, dataset, SETTINGS)).members) == ["f", "a"]
    assert _evaluate(tmp_path, ensemble, dataset) == 6
    table = _predictions(tmp_path)
    assert sorted(set(table["member"])) == ["a", "ensemble", "f"]
    scores = {name: np.stack(list(rows["scores"])) for name, rows in table.groupby("member")}
    np.testing.assert_allclose(scores["ensemble"], (scores["a"] + scores["f"]) / 2, atol=1e-6)


def test_a_functions_fingerprint_tells_its_runs_apart(tmp_path: Path, dataset: Dataset) -> None:
    assert _evaluate(tmp_path, _ensemble(_colours()), dataset) == 3
    assert _evaluate(tmp_path, _ensemble(_colours()), dataset) == 0
    with pytest.raises(InputError, match="another run"):
        _evaluate(tmp_path, _ensemble(_colours(fingerprint="other colours")), dataset)


def test_a_function_without_a_fingerprint_can_be_opened_but_not_stored(tmp_path: Path, dataset: Dataset) -> None:
    sources = sources_of(_ensemble(_colours(fingerprint=None)), dataset, SETTINGS)
    assert list(open_inputs(SETTINGS, sources).members) == ["f"]
    with pytest.raises(InputError, match=r"^member f: a predict function has no weights .*; give `fingerprint`"):
        open_folder(replace(SETTINGS, out=tmp_path), sources)


def test_what_a_function_returns_becomes_float32_and_its_input_is_its_own(dataset: Dataset) -> None:
    def predict(crops: Tensor) -> Tensor:
        crops.fill_(7)
        return torch.full((len(crops), COUNT), 1 / COUNT, dtype=torch.float64, requires_grad=True)

    sources = sources_of(_ensemble(Member("f", predict=predict)), dataset, SETTINGS)
    crops = torch.zeros(2, 3, 224, 224, dtype=torch.uint8)
    probabilities = open_inputs(SETTINGS, sources).members["f"](crops)
    assert (probabilities.dtype, probabilities.requires_grad) == (torch.float32, False)
    assert not crops.any()


@pytest.mark.parametrize(
    ("predict", "sentence"),
    [
        (lambda crops: crops.numpy(), "must return a tensor, not ndarray"),
        (lambda crops: torch.ones(len(crops), 3), r"must return floats \(4, 7\), .*, not torch.float32 \(4, 3\)"),
        (lambda _: torch.ones(COUNT), r"not torch.float32 \(7,\)"),
        (lambda crops: torch.ones(len(crops), COUNT, dtype=torch.int64), r"not torch.int64 \(4, 7\)"),
        (lambda crops: torch.full((len(crops), COUNT), float("nan")), "returns NaN or infinity for black crops"),
        (lambda crops: torch.ones(len(crops), COUNT), "and these go down to 1 and sum to 7; apply a softmax"),
        (lambda crops: torch.eye(COUNT)[0].repeat(len(crops), 1) * 3 - 2 / 7, "apply a softmax"),
    ],
    ids=["array", "classes", "shape", "integers", "NaN", "logits", "negative"],
)
def test_a_function_that_returns_no_probabilities_is_refused_at_opening(
    dataset: Dataset, predict: Callable[[Tensor], Tensor], sentence: str
) -> None:
    sources = sources_of(_ensemble(Member("f", predict=predict)), dataset, SETTINGS)
    with pytest.raises(InputError, match=f"^member f: `predict` .*{sentence}"):
        open_inputs(SETTINGS, sources)
