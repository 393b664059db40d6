from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import CUDA_IS_PRETENDED
from torch import Tensor, nn

from benchmarks import cuda
from benchmarks.cuda import amount_for, measure
from benchmarks.cuda_ceilings import activation_bytes
from benchmarks.cuda_contenders import Contender, picture_bytes
from benchmarks.cuda_results import Ceilings, Line, Timed, bound_ratio, results_text
from benchmarks.cuda_script import Script
from benchmarks.pipeline import CROP_SIZE, crops_tensor, normalised

LINES = {
    "forward 7": Line("forward", 0),
    "loaders 10": Line("loaders", 10),
    "ours": Line("ours", 70, ("forward 7", "loaders 10")),
    "decided": Line("decided", 70),
    "script": Line("script", 70, ("forward 7", "loaders 10")),
}
MEASURED = [
    Timed("forward 7", 1, 2880, 20_000, 1.0),
    Timed("loaders 10", 1, 200, 0, 1.0),
    Timed("ours", 1, 100, 7_000, 1.0),
    Timed("forward 7", 2, 2880, 10_000, 1.0),
    Timed("loaders 10", 2, 200, 0, 0.5),
    Timed("ours", 2, 100, 7_000, 0.875),
    Timed("decided", 2, 100, 7_000, 0.5),
]


def test_a_bound_is_the_lesser_of_both_round_by_round() -> None:
    ratio = bound_ratio("ours", LINES, MEASURED)
    assert ratio is not None
    # In the first round loaders allow 2,000 images' passes a tenth of a second, in the second the networks do.
    assert (ratio.low, ratio.high) == pytest.approx((0.5, 0.8))
    assert ratio.n == 2
    assert bound_ratio("script", LINES, MEASURED) is None
    assert bound_ratio("decided", LINES, MEASURED) is None


def test_the_results_are_written_literally() -> None:
    text = results_text(LINES, MEASURED, Ceilings(40_000, 20_000), {"device": "none"}, ["A note."])
    assert text == (
        "# On a GPU, side by side\n"
        "\n"
        "- device: none\n"
        "\n"
        "| | images/s | passes/s | n | of its bound | of the arithmetic | of the bandwidth |\n"
        "|---|--:|--:|--:|--:|--:|--:|\n"
        "| forward |  | 15000 (10000–20000) | 2 |  | 38% | 75% |\n"
        "| loaders | 300.0 (200.0–400.0) |  | 2 |  |  |  |\n"
        "| ours | 107.1 (100.0–114.3) | 7500 (7000–8000) | 2 | 0.65 (0.50–0.80) | 19% | 38% |\n"
        "| decided | 200.0 (200.0–200.0) | 14000 (14000–14000) | 1 |  | 35% | 70% |\n"
        "\n"
        "- A note.\n"
    )


@pytest.mark.parametrize("per_image", [0.0004, 0.02, 5.0])
def test_amounts_are_found_that_take_their_time(per_image: float) -> None:
    asked = []

    def seconds_of(images: int) -> float:
        asked.append(images)
        return 0.001 + per_image * images

    amount = amount_for(seconds_of, 3.0)
    assert asked[0] == 1
    assert amount == 1 if per_image == 5.0 else 2.5 < seconds_of(amount) < 3.5


def test_no_round_but_the_first_begins_when_the_time_is_over() -> None:
    def prepare(images: int) -> Callable[[], int]:
        return lambda: images

    found = {name: Contender(name, (), prepare) for name in "abc"}
    waited = []
    measured = list(measure(found, 5, 0.0, deadline=0.0, wait=lambda: waited.append(1)))
    assert sorted((one.key, one.round) for one in measured) == [("a", 1), ("b", 1), ("c", 1)]
    assert len(waited) >= 2 * len(measured)


def test_what_a_crop_reads_and_writes_grows_with_the_width() -> None:
    # The first convolution alone: 3 × 224 × 224 in, 64 × 112 × 112 out; all 57 and 14 poolings are more.
    first = 2 * (3 * 224**2 + 64 * 112**2)
    assert 10 * first < activation_bytes(1.0, 2) < 20 * first
    assert activation_bytes(1.0, 4) == 2 * activation_bytes(1.0, 2)


class _Means(nn.Module):
    """Scores that follow from a crop's mean colours."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, crops: Tensor) -> Tensor:
        return crops.mean((2, 3)) * self.factor


@pytest.mark.tools
@pytest.mark.slow
@pytest.mark.skipif(bool(CUDA_IS_PRETENDED), reason=CUDA_IS_PRETENDED)
def test_the_script_gives_the_mean_softmax_of_all_crops_and_members(
    tmp_path: Path,
) -> None:
    files = [picture_bytes(seed) for seed in range(3)]
    networks = [_Means(1.0), _Means(3.0)]
    script = Script(networks, torch.device("cpu"), torch.float32, 7, 2, "eager")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    scores = script.scores(files, 10, 2)
    # All members and all batches share one compiled forward.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert script.run(files, 10, 1) == 30
    for number, data in enumerate(files):
        (tmp_path / "picture.jpg").write_bytes(data)
        crops = normalised(crops_tensor(tmp_path / "picture.jpg")[:10], torch.float32)
        assert crops.shape == (10, 3, CROP_SIZE, CROP_SIZE)
        expected = torch.stack([torch.softmax(network(crops), dim=1).sum(0) for network in networks]).sum(0)
        torch.testing.assert_close(scores[number], expected / 20)


@pytest.mark.tools
@pytest.mark.slow
@pytest.mark.skipif(bool(CUDA_IS_PRETENDED), reason=CUDA_IS_PRETENDED)
def test_a_dry_run_goes_the_whole_way_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results.md"
    cuda.main(["--dry-run", "--seconds", "0.01", "--rounds", "1", "--out", str(out)])
    text = capsys.readouterr().out
    assert not out.exists()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 2 + 2 + 2 * 3 + 1
    for title in ("the forward pass alone, 2 models", "loaders alone, 10 crops", "ours, 2×10", "script: "):
        assert any(row.startswith(f"| {title}") for row in rows)
