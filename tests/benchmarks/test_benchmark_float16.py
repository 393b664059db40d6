import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.float16_on_cpu import SumsInFloat32, main
from benchmarks.networks import random_network


def test_sums_go_beyond_the_integers_that_float16_tells_apart() -> None:
    """2049 is not one of them: a sum in float16 stays at 2048 however many ones are added."""
    ones = torch.ones(1, 4100, 1, 1, dtype=torch.float16)
    with torch.inference_mode(), SumsInFloat32() as mode:
        convolved = torch.nn.functional.conv2d(ones, ones)
        connected = torch.nn.functional.linear(ones.flatten(1), ones.flatten(1))
    assert (convolved.item(), connected.item(), mode.products) == (4100, 4100, 2)
    assert convolved.dtype == connected.dtype == torch.float16


def test_a_network_gives_what_torchs_own_float16_gives() -> None:
    network = random_network(0, 0.1)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode(), torch.autocast("cpu", torch.float16):
        expected = network(pixels)
        with SumsInFloat32() as mode:
            logits = network(pixels)
    assert mode.products == 58, "57 convolutions and the classifier"
    assert logits.dtype == torch.float16
    # Eleven bits, and each of the layers rounds.
    atol = 2 * 2**-11 * expected.abs().max().item()
    torch.testing.assert_close(logits, expected, rtol=0, atol=atol)


def test_the_run_is_one_in_float16(
    ensemble: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(
        sys, "argv", ["", *map(str, [dataset, "--ensemble", ensemble, "--crops", 1, "--out", out])]
    )
    assert main() == 0
    assert json.loads((out / "run.json").read_text())["precision"] == "float16"


def test_a_run_without_a_product_in_float16_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as one whose ranks are other processes."""
    monkeypatch.setattr(sys, "argv", ["", "--ranks", "2"])
    assert main(lambda: 0) == 1
    assert "--ranks" in capsys.readouterr().err
