import importlib

import pytest
import torch

from benchmarks.networks import random_network
from ensemble_eval.models.layers import fold_batch_norm

pytest.importorskip("ensemble_eval.backends.openvino", reason="the extra [cpu] is not installed")
variants = importlib.import_module("benchmarks.variants")


def test_merged_modules_give_what_the_network_gives() -> None:
    network = fold_batch_norm(random_network(0, 0.25))
    other = variants.merged(network)
    assert sum(isinstance(module, variants.MergedInception) for module in other.modules()) == 9
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(other(pixels), network(pixels))


def test_every_way_is_compared_with_the_one_that_it_changes() -> None:
    rounds = [{"eager": 50.0, "folded": 55.0}, {"eager": 40.0, "folded": 48.0}, {"eager": 45.0, "folded": 45.0}]
    assert variants.report({"eager": None, "folded": "eager"}, rounds) == (
        "| | passes/s | | over |\n"
        "|---|--:|--:|---|\n"
        "| eager | 45.0 (40.0–50.0) | – | – |\n"
        "| folded | 48.0 (45.0–55.0) | 1.10× (1.00–1.20) | eager |\n"
        "\n"
        "Median (least–greatest), n = 3."
    )
