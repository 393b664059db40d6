import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from builders import opened
from conftest import Cli
from torch import Tensor

from ensemble_eval.backends.network import NetworkPredict
from ensemble_eval.crops.plan import CropRule
from ensemble_eval.crops.protocols import GOOGLENET
from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.cost import Cost, estimate, padding_warnings
from ensemble_eval.evaluation.opening import Sources
from ensemble_eval.settings import RunSettings, Settings


@pytest.mark.parametrize(
    ("batch_size", "crops", "images", "processes", "filled"),
    [
        (288, 1, 6, 1, "6 crops fill 2%"),
        (288, 144, 1, 1, "144 crops fill 50%"),
        (1024, 1, 500, 1, "500 crops fill 49%"),
        (1024, 1, 1000, 2, "500 crops of each process fill 49%"),
        (1024, 1, 1000, 1, None),
        (288, 10, 100, 1, None),
        (4, 1, 3, 1, None),
        (None, 1, 6, 1, None),
    ],
)
def test_a_batch_size_beyond_what_the_data_set_fills_is_told(
    batch_size: int | None, crops: int, images: int, processes: int, filled: str | None
) -> None:
    stand_in = SimpleNamespace(rule=CropRule((GOOGLENET,), crops), dataset=SimpleNamespace(items=range(images)))
    settings = Settings(batch_size=batch_size, crops=crops)
    warnings = padding_warnings(settings, cast(Sources, stand_in), processes)
    assert warnings == (
        []
        if filled is None
        else [
            f"the {filled} of the rows of batches of {batch_size}; the rest is padding, which takes as long as "
            "crops do; a smaller `batch_size` wastes less"
        ]
    )


def test_time_is_in_whole_seconds() -> None:
    cost = Cost(
        passes_per_image=2,
        passes_at_most=12,
        passes_per_second=100.0,
        seconds=59.6,
        loading_seconds=0.1,
        multiply_adds=5,
    )
    assert cost.duration.total_seconds() == 60.0


SECONDS = 0.1


@pytest.mark.parametrize(("batch_size", "batches"), [(512, 1), (2, 3)])
def test_padding_and_all_batches_count_in_the_estimate(
    dataset: Path, ensemble: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int, batches: int
) -> None:
    """Six crops in one batch of 512 take as long as 512 crops do."""
    predict = NetworkPredict.__call__

    def slow(self: NetworkPredict, crops: Tensor) -> Tensor:
        if len(crops) == 1:
            return predict(self, crops)
        time.sleep(SECONDS)
        return torch.full((len(crops), 7), 1 / 7)

    monkeypatch.setattr(NetworkPredict, "__call__", slow)
    settings = RunSettings(
        dataset=dataset, ensemble=ensemble, crops=1, device="cpu", backend="torch", batch_size=batch_size
    )
    cost = estimate(opened(settings), settings)
    assert cost.passes_at_most == 12
    assert 2 * batches * SECONDS <= cost.seconds <= 20 * batches * SECONDS  # two members
    assert cost.passes_per_second == pytest.approx(2 * batch_size * batches / cost.seconds)


def test_a_crop_that_does_not_fit_into_memory_is_refused(
    dataset: Path, ensemble: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def overflowing(_: NetworkPredict, crops: Tensor) -> Tensor:
        sizes.append(len(crops))
        raise torch.OutOfMemoryError("out of memory")

    settings = RunSettings(
        dataset=dataset, ensemble=ensemble, crops=1, device="cpu", backend="torch", batch_size=4
    )
    inputs = opened(settings)
    monkeypatch.setattr(NetworkPredict, "__call__", overflowing)
    with pytest.raises(InputError, match="a batch of 1 does not fit into memory; use fewer models"):
        estimate(inputs, settings)
    assert sizes == [4, 2, 1]


@pytest.mark.parametrize("command", ["check", "run"])
def test_check_and_run_warn_of_it(cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path, command: str) -> None:
    options = ("--crops", "1", "--batch-size", "32", "--out", tmp_path / "out")
    finished = cli(command, dataset, "--ensemble", ensemble, *options)
    assert finished.code == 0
    warning = (
        r"^warning: the 6 crops fill 19% of the rows of batches of 32; the rest is padding, which takes as long "
        r"as crops do; a smaller --batch-size wastes less$"
    )
    assert len(re.findall(warning, finished.err, re.M)) == 1
